"""Where a setting comes from: flags win over the environment, the environment over the file."""

import pytest

from harness.megalith_up import Up
from harness.process import run


@pytest.fixture
def gateway(tmp_path):
    """A gateway's file whose S3 listener is nonsense, so that a gateway says which it took."""
    run("gateway", "init", "--id", 1, "--dir", tmp_path / "g", "--ca-dir", tmp_path / "ca",
        "--host", "h", "--root-key-file", tmp_path / "root.key",
        "--metadata-member", "1=localhost:1", "--listen", "from-the-file")
    return tmp_path / "g" / "gateway.toml"


def said(*args, **env):
    done = run(*args, check=False, env=env)
    assert done.returncode == 1, done
    return done.stderr


def test_flags_win_over_the_environment_and_that_over_the_file(gateway):
    command = ["gateway", "--config", gateway]
    assert "`gateway.listen`: from-the-file:" in said(*command)
    env = {"MEGALITH_GATEWAY__LISTEN": "from-the-environment"}
    assert "`gateway.listen`: from-the-environment:" in said(*command, **env)
    flag = [*command, "--listen", "from-a-flag"]
    assert "`gateway.listen`: from-a-flag:" in said(*flag, **env)


def test_the_file_itself_may_come_from_the_environment(gateway):
    assert "`gateway.listen`: from-the-file:" in said("gateway", MEGALITH_CONFIG=str(gateway))


def test_a_role_without_a_file_says_how_to_name_one():
    for role in ("node", "gateway"):
        assert "a role needs its file: --config FILE" in said(role)


def test_an_unknown_key_of_the_environment_is_refused_as_such(gateway):
    words = said("config", "check", gateway, MEGALITH_GATEWAY__LISEN="x")
    assert words == "megalith: environment: unknown key `gateway.lisen` (did you mean `listen`?)\n"


def test_variables_with_one_underscore_are_left_alone(gateway):
    """Kubernetes makes such variables for a service that is called megalith."""
    words = said("gateway", "--config", gateway, MEGALITH_SERVICE_HOST="10.0.0.1")
    assert "`gateway.listen`: from-the-file:" in words


@pytest.mark.parametrize("name", ["HEALTH_LISTEN", "ADMIN_LISTEN"])
def test_the_health_listener_has_an_old_name_in_the_environment(gateway, name):
    run_with = ["gateway", "--config", gateway]
    words = said(*run_with, **{f"MEGALITH_GATEWAY__{name}": "nonsense"})
    assert "`gateway.health_listen`: nonsense:" in words


def test_the_health_listener_has_an_old_name_on_the_command_line(tmp_path):
    with Up(tmp_path, health_flag="--admin-listen") as up:
        assert up.health("/health/live") == 200
