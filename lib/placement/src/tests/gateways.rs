//! Whose leases the leader closes, and what it knows of readers. To update, see `transcripts`.

use super::check;
use expect_test::expect;

#[test]
fn the_lease_of_a_silent_gateway_is_closed_after_its_life_and_no_other() {
    let script = "
        0 up
        100 lease 1 2
        70000 -
        70100 mute 2
        129900 -
        131000 -
    ";
    check(
        script,
        expect![[r#"
        0 up
          0 map 1: alive  | refusal: no storage node is registered
        100 lease 1 2
          100 map 3: alive  | refusal: no storage node is registered
        70000 -
        70100 mute 2
        129900 -
          130000 close lease-1 of gateway-2
          130000 map 4: alive  | refusal: no storage node is registered
        131000 -
    "#]],
    );
}

#[test]
fn what_a_living_gateway_does_not_name_is_closed() {
    let script = "
        0 up
        100 lease 1 2
        30500 again 1
        31000 lease 1
        62000 -
        91000 -
    ";
    check(
        script,
        expect![[r#"
        0 up
          0 map 1: alive  | refusal: no storage node is registered
        100 lease 1 2
          100 map 3: alive  | refusal: no storage node is registered
        30500 again 1
        31000 lease 1
          31000 map 4: alive  | refusal: no storage node is registered
        62000 -
          90000 close lease-0 of gateway-1
          90000 map 5: alive  | refusal: no storage node is registered
        91000 -
    "#]],
    );
}

#[test]
fn a_new_leader_closes_nothing_and_frees_nothing_before_it_could_hear_everybody() {
    let script = "
        0 up
        100 lease 1
        200 mute 1
        59000 freeing
        59100 up
        61000 freeing
        119000 freeing
        120000 freeing
    ";
    check(
        script,
        expect![[r#"
        0 up
          0 map 1: alive  | refusal: no storage node is registered
        100 lease 1
          100 map 2: alive  | refusal: no storage node is registered
        200 mute 1
        59000 freeing
          59000 no deletes yet
        59100 up
          59100 map 1: alive  | refusal: no storage node is registered
        61000 freeing
          61000 no deletes yet
        119000 freeing
          119000 no deletes yet
          119100 close lease-0 of gateway-1
          119100 map 2: alive  | refusal: no storage node is registered
        120000 freeing
          120000 lowest read None
    "#]],
    );
}

#[test]
fn a_pause_of_the_leader_is_nobodys_silence() {
    let script = "
        0 up
        100 lease 1
        61000 mute 1
        62000 sleep 300000
        362500 freeing
        363000 say 1
        500000 -
    ";
    check(
        script,
        expect![[r#"
        0 up
          0 map 1: alive  | refusal: no storage node is registered
        100 lease 1
          100 map 2: alive  | refusal: no storage node is registered
        61000 mute 1
        62000 sleep 300000
        362500 freeing
          362500 lowest read None
        363000 say 1
        500000 -
    "#]],
    );
}

#[test]
fn the_lowest_read_is_that_of_all_processes_that_are_heard() {
    let script = "
        0 up
        100 reads 1 7
        100 reads 2 5
        60500 freeing
        60600 again 2
        60600 reads 2 9
        61500 freeing
        62000 mute 1
        119000 freeing
        122000 freeing
    ";
    check(
        script,
        expect![[r#"
        0 up
          0 map 1: alive  | refusal: no storage node is registered
        100 reads 1 7
        100 reads 2 5
        60500 freeing
          60500 lowest read Some(5)
        60600 again 2
        60600 reads 2 9
        61500 freeing
          61500 lowest read Some(5)
        62000 mute 1
        119000 freeing
          119000 lowest read Some(5)
        122000 freeing
          122000 lowest read Some(9)
    "#]],
    );
}
