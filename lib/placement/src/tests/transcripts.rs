//! What the planner does when nodes come, die, return and fill up. To update, run `UPDATE_EXPECT=1
//! cargo test` (not nextest: its processes would overwrite each other's changes).

use super::{check, check_with, expecting};
use crate::PlannerSettings;
use expect_test::expect;
use megalith_model::profile::Profile;

#[test]
fn one_node_with_six_disks_is_ready_at_once() {
    check_with(
        expecting(1),
        "0 up\n100 register 1::6\n600 -",
        expect![[r#"
            0 up
              0 map 1: alive  | refusal: no storage node is registered
            100 register 1::6
              100 map 2: alive 1 | refusal: waiting for the first heartbeat of every storage node
              500 map 3: alive 1
              500 create 4+2 over Disks: 1 1 1 1 1 1
              500 create 4+2 over Disks: 1 1 1 1 1 1
              500 map 5: alive 1 | writable 1:4+2 2:4+2
            600 -
        "#]],
    );
}

#[test]
fn volumes_wait_until_no_new_node_comes() {
    let script = "
        0 up
        100 register 1
        500 register 2 3
        2000 register 4
        6000 -
    ";
    check(
        script,
        expect![[r#"
            0 up
              0 map 1: alive  | refusal: no storage node is registered
            100 register 1
              100 map 2: alive 1 | refusal: waiting for the first heartbeat of every storage node
              500 map 3: alive 1 | refusal: waiting for further storage nodes: 1 are registered so far
            500 register 2 3
              500 map 5: alive 1 2 3 | refusal: waiting for the first heartbeat of every storage node
              1000 map 6: alive 1 2 3 | refusal: waiting for further storage nodes: 3 are registered so far
            2000 register 4
              2000 map 7: alive 1 2 3 4 | refusal: waiting for the first heartbeat of every storage node
              2500 map 8: alive 1 2 3 4 | refusal: waiting for further storage nodes: 4 are registered so far
              5000 map 9: alive 1 2 3 4
              5000 create 2+2 over Nodes: 2 1 3 4
              5000 create 2+2 over Nodes: 2 4 1 3
              5000 map 11: alive 1 2 3 4 | writable 1:2+2 2:2+2
            6000 -
        "#]],
    );
}

const SIX: &str = "
    0 up
    100 register 1 2 3 4 5 6
";

#[test]
fn two_of_six_die_and_writes_go_on_as_2_2_until_they_return() {
    let script = format!(
        "{SIX}
        1000 die 5 6
        6000 live 5
        10000 live 6
        80000 -"
    );
    check_with(
        expecting(6),
        &script,
        expect![[r#"
            0 up
              0 map 1: alive  | refusal: no storage node is registered
            100 register 1 2 3 4 5 6
              100 map 7: alive 1 2 3 4 5 6 | refusal: waiting for the first heartbeat of every storage node
              500 map 8: alive 1 2 3 4 5 6
              500 create 4+2 over Nodes: 6 2 1 3 4 5
              500 create 4+2 over Nodes: 2 4 1 5 3 6
              500 map 10: alive 1 2 3 4 5 6 | writable 1:4+2 2:4+2
            1000 die 5 6
              3000 map 11: alive 1 2 3 4
              3000 create 2+2 shrunk over Nodes: 2 4 1 3
              3000 create 2+2 shrunk over Nodes: 4 2 1 3
              3000 map 13: alive 1 2 3 4 | writable 3:2+2 4:2+2
            6000 live 5
              6000 map 14: alive 1 2 3 4 5 | writable 3:2+2 4:2+2 | degraded 1:4+2 2:4+2
              7000 create 3+2 shrunk over Nodes: 4 5 2 1 3
              7000 create 3+2 shrunk over Nodes: 5 4 1 2 3
              7000 map 16: alive 1 2 3 4 5 | writable 5:3+2 6:3+2 3:2+2 4:2+2 | degraded 1:4+2 2:4+2
            10000 live 6
              10000 map 17: alive 1 2 3 4 5 6 | writable 1:4+2 2:4+2 5:3+2 6:3+2 3:2+2 4:2+2
              70000 close volume-3
              70000 close volume-4
              70000 close volume-5
              70000 close volume-6
              70000 map 21: alive 1 2 3 4 5 6 | writable 1:4+2 2:4+2
            80000 -
        "#]],
    );
}

#[test]
fn below_m_plus_one_it_refuses_and_says_why() {
    let script =
        format!("{SIX}\n 1000 die 3 4 5 6\n 5000 close 2\n 6000 open 2\n 7000 live 3\n9000 -");
    check_with(
        expecting(6),
        &script,
        expect![[r#"
            0 up
              0 map 1: alive  | refusal: no storage node is registered
            100 register 1 2 3 4 5 6
              100 map 7: alive 1 2 3 4 5 6 | refusal: waiting for the first heartbeat of every storage node
              500 map 8: alive 1 2 3 4 5 6
              500 create 4+2 over Nodes: 6 2 1 3 4 5
              500 create 4+2 over Nodes: 2 4 1 5 3 6
              500 map 10: alive 1 2 3 4 5 6 | writable 1:4+2 2:4+2
            1000 die 3 4 5 6
              3000 map 11: alive 1 2 | refusal: profile 4+2 needs at least 3 living nodes; 2 of 6 take shards; silent: node-3, node-4, node-5, node-6
            5000 close 2
              5000 map 12: alive 1 2 | refusal: profile 4+2 needs at least 3 living nodes; 1 of 6 take shards; silent: node-3, node-4, node-5, node-6; all disks closed: node-2
            6000 open 2
              6000 map 13: alive 1 2 | refusal: profile 4+2 needs at least 3 living nodes; 2 of 6 take shards; silent: node-3, node-4, node-5, node-6
            7000 live 3
              7000 map 14: alive 1 2 3 | refusal: waiting a moment for further nodes that come back
              8000 map 15: alive 1 2 3
              8000 create 1+2 shrunk over Nodes: 2 1 3
              8000 create 1+2 shrunk over Nodes: 2 1 3
              8000 map 17: alive 1 2 3 | writable 3:1+2 4:1+2
            9000 -
        "#]],
    );
}

#[test]
fn zones_take_at_most_m_slots_each() {
    let script = "
        0 up
        100 register 1:a 2:a 3:a 4:b 5:b 6:c 7:c
        1000 die 7
        5000 -
    ";
    check_with(
        expecting(7),
        script,
        expect![[r#"
            0 up
              0 map 1: alive  | refusal: no storage node is registered
            100 register 1:a 2:a 3:a 4:b 5:b 6:c 7:c
              100 map 8: alive 1 2 3 4 5 6 7 | refusal: waiting for the first heartbeat of every storage node
              500 map 9: alive 1 2 3 4 5 6 7
              500 create 4+2 over Nodes: 6 2 1 7 4 5
              500 create 4+2 over Nodes: 4 1 5 7 3 6
              500 map 11: alive 1 2 3 4 5 6 7 | writable 1:4+2 2:4+2
            1000 die 7
              3000 map 12: alive 1 2 3 4 5 6 | degraded 1:4+2 2:4+2
              3000 create 3+2 shrunk over Nodes: 2 6 4 5 3
              3000 create 3+2 shrunk over Nodes: 5 4 2 1 6
              3000 map 14: alive 1 2 3 4 5 6 | writable 3:3+2 4:3+2 | degraded 1:4+2 2:4+2
            5000 -
        "#]],
    );
}

#[test]
fn a_profile_that_the_zones_cannot_carry_is_refused() {
    let settings = PlannerSettings {
        profile: Profile::new(4, 2).ok(),
        ..expecting(6)
    };
    let script = "0 up\n100 register 1:a 2:a 3:a 4:a 5:b 6:c\n1000 -";
    check_with(
        settings,
        script,
        expect![[r#"
        0 up
          0 map 1: alive  | refusal: no storage node is registered
        100 register 1:a 2:a 3:a 4:a 5:b 6:c
          100 map 7: alive 1 2 3 4 5 6 | refusal: profile 4+2 puts at most 2 of its 6 slots into one zone; the zones (a: 4, b: 1, c: 1) have room for 4
        1000 -
    "#]],
    );
}

#[test]
fn a_default_profile_fits_the_zones() {
    let script = "0 up\n100 register 1:a 2:a 3:a 4:a 5:b 6:c\n1000 -";
    check_with(
        expecting(6),
        script,
        expect![[r#"
            0 up
              0 map 1: alive  | refusal: no storage node is registered
            100 register 1:a 2:a 3:a 4:a 5:b 6:c
              100 map 7: alive 1 2 3 4 5 6 | refusal: waiting for the first heartbeat of every storage node
              500 map 8: alive 1 2 3 4 5 6
              500 create 2+2 over Nodes: 6 2 1 5
              500 create 2+2 over Nodes: 4 5 3 6
              500 map 10: alive 1 2 3 4 5 6 | writable 1:2+2 2:2+2
            1000 -
        "#]],
    );
}

#[test]
fn full_volumes_are_replaced_then_closed() {
    let script = format!("{SIX}\n 1000 fill 1 32\n 2000 fill 2 31\n3000 -");
    check_with(
        expecting(6),
        &script,
        expect![[r#"
            0 up
              0 map 1: alive  | refusal: no storage node is registered
            100 register 1 2 3 4 5 6
              100 map 7: alive 1 2 3 4 5 6 | refusal: waiting for the first heartbeat of every storage node
              500 map 8: alive 1 2 3 4 5 6
              500 create 4+2 over Nodes: 6 2 1 3 4 5
              500 create 4+2 over Nodes: 2 4 1 5 3 6
              500 map 10: alive 1 2 3 4 5 6 | writable 1:4+2 2:4+2
            1000 fill 1 32
              1000 map 11: alive 1 2 3 4 5 6 | writable 2:4+2 1:4+2
              1000 create 4+2 over Nodes: 2 6 4 5 1 3
              1000 close volume-1
              1000 map 13: alive 1 2 3 4 5 6 | writable 2:4+2 3:4+2
            2000 fill 2 31
            3000 -
        "#]],
    );
}

#[test]
fn a_full_disk_leaves_the_write_set() {
    let script = "
        0 up
        100 register 1 2 3 4 5 6 7
        1000 close 3
        2000 open 3
    ";
    check_with(
        expecting(7),
        script,
        expect![[r#"
            0 up
              0 map 1: alive  | refusal: no storage node is registered
            100 register 1 2 3 4 5 6 7
              100 map 8: alive 1 2 3 4 5 6 7 | refusal: waiting for the first heartbeat of every storage node
              500 map 9: alive 1 2 3 4 5 6 7
              500 create 4+2 over Nodes: 6 2 1 3 4 5
              500 create 4+2 over Nodes: 2 4 1 5 7 3
              500 map 11: alive 1 2 3 4 5 6 7 | writable 1:4+2 2:4+2
            1000 close 3
              1000 map 12: alive 1 2 3 4 5 6 7 | degraded 1:4+2 2:4+2
              1000 create 4+2 over Nodes: 2 6 4 5 1 7
              1000 create 4+2 over Nodes: 5 4 2 1 7 6
              1000 map 14: alive 1 2 3 4 5 6 7 | writable 3:4+2 4:4+2 | degraded 1:4+2 2:4+2
            2000 open 3
              2000 map 15: alive 1 2 3 4 5 6 7 | writable 1:4+2 2:4+2 3:4+2 4:4+2
        "#]],
    );
}

#[test]
fn growing_from_one_node_to_three_makes_volumes_over_nodes_and_closes_the_old() {
    let script = "
        0 up
        100 register 1::3
        1000 register 2 3
        5000 -
    ";
    check_with(
        expecting(1),
        script,
        expect![[r#"
            0 up
              0 map 1: alive  | refusal: no storage node is registered
            100 register 1::3
              100 map 2: alive 1 | refusal: waiting for the first heartbeat of every storage node
              500 map 3: alive 1
              500 create 1+2 over Disks: 1 1 1
              500 create 1+2 over Disks: 1 1 1
              500 map 5: alive 1 | writable 1:1+2 2:1+2
            1000 register 2 3
              1000 map 7: alive 1 2 3 | writable 1:1+2 2:1+2
              4000 create 1+2 over Nodes: 2 1 3
              4000 create 1+2 over Nodes: 2 1 3
              4000 map 9: alive 1 2 3 | writable 3:1+2 4:1+2 1:1+2 2:1+2
              4000 close volume-1
              4000 close volume-2
              4000 map 11: alive 1 2 3 | writable 3:1+2 4:1+2
            5000 -
        "#]],
    );
}

#[test]
fn two_nodes_share_a_volume_evenly() {
    let script = "0 up\n100 register 1::3 2::3\n600 -";
    check_with(
        expecting(2),
        script,
        expect![[r#"
            0 up
              0 map 1: alive  | refusal: no storage node is registered
            100 register 1::3 2::3
              100 map 3: alive 1 2 | refusal: waiting for the first heartbeat of every storage node
              500 map 4: alive 1 2
              500 create 4+2 over Disks: 2 1 1 2 2 1
              500 create 4+2 over Disks: 2 2 1 2 1 1
              500 map 6: alive 1 2 | writable 1:4+2 2:4+2
            600 -
        "#]],
    );
}

#[test]
fn a_new_leader_waits_for_everybody_before_it_shrinks() {
    let script = format!("{SIX}\n1000 down\n1100 die 6\n10000 up\n14000 -");
    check_with(
        expecting(6),
        &script,
        expect![[r#"
            0 up
              0 map 1: alive  | refusal: no storage node is registered
            100 register 1 2 3 4 5 6
              100 map 7: alive 1 2 3 4 5 6 | refusal: waiting for the first heartbeat of every storage node
              500 map 8: alive 1 2 3 4 5 6
              500 create 4+2 over Nodes: 6 2 1 3 4 5
              500 create 4+2 over Nodes: 2 4 1 5 3 6
              500 map 10: alive 1 2 3 4 5 6 | writable 1:4+2 2:4+2
            1000 down
            1100 die 6
            10000 up
              10000 map 1: alive 1 2 3 4 5 6 | writable 1:4+2 2:4+2
              12000 map 2: alive 1 2 3 4 5 | degraded 1:4+2 2:4+2
              12000 create 3+2 shrunk over Nodes: 2 4 5 1 3
              12000 create 3+2 shrunk over Nodes: 5 4 2 1 3
              12000 map 4: alive 1 2 3 4 5 | writable 3:3+2 4:3+2 | degraded 1:4+2 2:4+2
            14000 -
        "#]],
    );
}

#[test]
fn nodes_that_come_back_one_by_one_leave_no_trail_of_volumes() {
    let script = format!(
        "{SIX}
        1000 die 1 2 3 4 5 6
        5000 live 1
        5200 live 2
        5400 live 3
        5600 live 4
        5800 live 5
        6000 live 6
        9000 -"
    );
    check_with(
        expecting(6),
        &script,
        expect![[r#"
            0 up
              0 map 1: alive  | refusal: no storage node is registered
            100 register 1 2 3 4 5 6
              100 map 7: alive 1 2 3 4 5 6 | refusal: waiting for the first heartbeat of every storage node
              500 map 8: alive 1 2 3 4 5 6
              500 create 4+2 over Nodes: 6 2 1 3 4 5
              500 create 4+2 over Nodes: 2 4 1 5 3 6
              500 map 10: alive 1 2 3 4 5 6 | writable 1:4+2 2:4+2
            1000 die 1 2 3 4 5 6
              3000 map 11: alive  | refusal: profile 4+2 needs at least 3 living nodes; 0 of 6 take shards; silent: node-1, node-2, node-3, node-4, node-5, node-6
            5000 live 1
              5000 map 12: alive 1 | refusal: profile 4+2 needs at least 3 living nodes; 1 of 6 take shards; silent: node-2, node-3, node-4, node-5, node-6
            5200 live 2
              5200 map 13: alive 1 2 | refusal: profile 4+2 needs at least 3 living nodes; 2 of 6 take shards; silent: node-3, node-4, node-5, node-6
            5400 live 3
              5400 map 14: alive 1 2 3 | refusal: waiting a moment for further nodes that come back
            5600 live 4
              5600 map 15: alive 1 2 3 4 | refusal: waiting a moment for further nodes that come back
            5800 live 5
              5800 map 16: alive 1 2 3 4 5 | degraded 1:4+2 2:4+2 | refusal: waiting a moment for further nodes that come back
            6000 live 6
              6000 map 17: alive 1 2 3 4 5 6 | writable 1:4+2 2:4+2
            9000 -
        "#]],
    );
}

#[test]
fn a_driver_that_slept_blames_nobody() {
    let script = format!("{SIX}\n1000 sleep 30000\n32000 -");
    check_with(
        expecting(6),
        &script,
        expect![[r#"
            0 up
              0 map 1: alive  | refusal: no storage node is registered
            100 register 1 2 3 4 5 6
              100 map 7: alive 1 2 3 4 5 6 | refusal: waiting for the first heartbeat of every storage node
              500 map 8: alive 1 2 3 4 5 6
              500 create 4+2 over Nodes: 6 2 1 3 4 5
              500 create 4+2 over Nodes: 2 4 1 5 3 6
              500 map 10: alive 1 2 3 4 5 6 | writable 1:4+2 2:4+2
            1000 sleep 30000
            32000 -
        "#]],
    );
}
