//! Beats of gateways: who may say what, and what the leader does about silence.

use super::*;
use megalith_client::convert::beat_to_wire;
use megalith_model::beat::{BEAT_LEASES_MAX, Beat};
use std::time::Duration;

fn beat(gateway: u32, leases: Vec<LeaseId>) -> v1::BeatRequest {
    beat_to_wire(&Beat {
        gateway: GatewayId(gateway),
        life: 1,
        leases,
        reading: None,
    })
}

async fn said(
    service: &ClusterService<Late>,
    certificate: (Role, u32),
    beat: v1::BeatRequest,
) -> Result<v1::BeatReply, tonic::Code> {
    let (role, id) = certificate;
    let reply = service.beat(call_of(role, id, beat)).await;
    reply
        .map(tonic::Response::into_inner)
        .map_err(|status| status.code())
}

#[tokio::test]
async fn a_gateway_speaks_for_itself_only_and_not_at_length() {
    let (group, stop) = (Late::new(), CancellationToken::new());
    let service = service(&group, &stop);
    first_map(&service).await;
    let own = (Role::Gateway, 1);
    let heard = said(&service, own, beat(1, Vec::new())).await;
    assert_eq!(heard.expect("heard").not_leader, None);
    for other in [(Role::Gateway, 2), (Role::Storage, 1)] {
        let refused = said(&service, other, beat(1, Vec::new())).await;
        assert_eq!(refused, Err(tonic::Code::PermissionDenied), "{other:?}");
    }
    let leases = |count: usize| (0..count as u64).map(LeaseId).collect();
    let most = said(&service, own, beat(1, leases(BEAT_LEASES_MAX))).await;
    assert!(most.is_ok(), "{most:?}");
    let more = said(&service, own, beat(1, leases(BEAT_LEASES_MAX + 1))).await;
    assert_eq!(more, Err(tonic::Code::InvalidArgument));
    // Elsewhere it is not heard, and is told so.
    group.shared.leadership.send_replace(Leadership::default());
    let elsewhere = async {
        loop {
            let reply = said(&service, own, beat(1, Vec::new())).await;
            if reply.expect("an answer").not_leader.is_some() {
                break;
            }
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(30), elsewhere).await;
    told.expect("it learns that it does not lead");
    stop.cancel();
}

#[tokio::test]
async fn the_lease_of_the_silent_gateway_is_closed_and_not_that_of_the_one_that_beats() {
    let (group, stop) = (Late::new(), CancellationToken::new());
    let living = group.open_lease_of(GatewayId(1), 1);
    let silent = group.open_lease_of(GatewayId(2), 2);
    let settings = PlannerSettings {
        gateway_life_ms: 1_500,
        ..PlannerSettings::default()
    };
    let service = service_by(&group, &stop, settings);
    first_map(&service).await;
    let closings = || {
        let proposed = group.shared.proposed.borrow();
        let closes = |command: &&Command| matches!(command, Command::CloseLease { .. });
        proposed.iter().filter(closes).cloned().collect::<Vec<_>>()
    };
    let mut ticks = interval(Duration::from_millis(20));
    let beats = async {
        while closings().is_empty() {
            ticks.tick().await;
            let reply = said(&service, (Role::Gateway, 1), beat(1, vec![living.id])).await;
            assert!(reply.is_ok(), "{reply:?}");
        }
    };
    let closed = tokio::time::timeout(Duration::from_secs(30), beats).await;
    closed.expect("a lease is given up");
    let (gateway, lease) = (silent.gateway, silent.id);
    assert_eq!(closings(), [Command::CloseLease { gateway, lease }]);
    stop.cancel();
}
