//! Decides which profile is wished, and which is possible with the domains that live.

use super::choose::{Candidate, OuterDomain};
use super::state::View;
use megalith_model::profile::Profile;
use megalith_model::topology::{Disk, Domain, Node};
use std::collections::BTreeMap;

/// From this many zones on, no more than m slots are put into one.
const ZONES_MIN: usize = 3;

/// A kind of volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VolumeKind {
    pub(super) profile: Profile,
    pub(super) domain: Domain,
}

/// What is wished and what is possible now.
#[derive(Debug)]
pub(super) struct Aim {
    /// The kind with all registered domains alive.
    pub(super) wished: VolumeKind,
    /// The kind with the domains alive now, or why none is possible.
    pub(super) target: Result<VolumeKind, String>,
    /// The most slots in one outer domain.
    pub(super) outer_max: usize,
    /// Where slots may be put now.
    pub(super) candidates: Vec<Candidate>,
}

/// Decides what is wished and what is possible; an error is in words for the operator.
pub(super) fn aim(view: &View<'_>) -> Result<Aim, String> {
    let nodes: Vec<&Node> = view.storage_nodes().collect();
    let domain = match nodes.len() {
        0 => return Err("no storage node is registered".into()),
        1 | 2 => Domain::Disk,
        _ => Domain::Node,
    };
    let all = candidates(view, &nodes, domain, |_, _| true);
    let zones = match domain {
        Domain::Node => outer_sizes(&all).len(),
        Domain::Disk => 1,
    };
    let capped = |profile: Profile| {
        if zones >= ZONES_MIN && profile.parity() > 0 {
            profile.parity()
        } else {
            usize::MAX
        }
    };
    let nothing = || "no disk is registered".to_owned();
    let profile = match view.settings.profile {
        Some(profile) => {
            let room = room(&all, capped(profile));
            if room < profile.shards() && all.len() >= profile.shards() {
                return Err(zones_too_small(profile, &all, room));
            }
            profile
        }
        None => {
            let default = Profile::default_for(all.len(), zones).ok_or_else(nothing)?;
            let room = room(&all, capped(default));
            default.shrunk_to(room).ok_or_else(nothing)?
        }
    };
    let outer_max = capped(profile);
    let living = candidates(view, &nodes, domain, |node, disk| {
        view.alive.contains(&node.id)
            && view
                .report(node.id, disk.id)
                .is_some_and(|disk| disk.closed.is_none())
    });
    let wished = VolumeKind { profile, domain };
    let target = match profile.shrunk_to(room(&living, outer_max)) {
        Some(profile) => Ok(VolumeKind { profile, domain }),
        None => Err(too_few(view, wished, &all, &living)),
    };
    Ok(Aim {
        wished,
        target,
        outer_max,
        candidates: living,
    })
}

/// Returns one candidate for each domain. If nodes are the domains: each node's disk with the most
/// free space.
fn candidates(
    view: &View<'_>,
    nodes: &[&Node],
    domain: Domain,
    fits: impl Fn(&Node, &Disk) -> bool,
) -> Vec<Candidate> {
    let mut found = Vec::new();
    for node in nodes {
        let disks = node.disks.iter().filter(|disk| fits(node, disk));
        let options = disks.map(|disk| Candidate {
            outer: match domain {
                Domain::Node => OuterDomain::Zone(node.zone.clone()),
                Domain::Disk => OuterDomain::Node(node.id),
            },
            node: node.id,
            disk: disk.id,
            free: view.report(node.id, disk.id).map_or(0, |disk| disk.free),
        });
        match domain {
            Domain::Node => {
                found.extend(options.max_by_key(|option| {
                    let free = super::choose::unclaimed(view, option);
                    (free, std::cmp::Reverse(option.disk))
                }));
            }
            Domain::Disk => found.extend(options),
        }
    }
    found
}

fn outer_sizes(candidates: &[Candidate]) -> BTreeMap<&OuterDomain, usize> {
    let mut sizes = BTreeMap::new();
    for candidate in candidates {
        *sizes.entry(&candidate.outer).or_default() += 1;
    }
    sizes
}

/// Returns how many slots fit with at most `outer_max` in each outer domain.
fn room(candidates: &[Candidate], outer_max: usize) -> usize {
    let sizes = outer_sizes(candidates);
    sizes.values().map(|size| outer_max.min(*size)).sum()
}

fn zones_too_small(profile: Profile, all: &[Candidate], room: usize) -> String {
    let zones: Vec<String> = outer_sizes(all)
        .iter()
        .map(|(zone, size)| format!("{zone}: {size}"))
        .collect();
    format!(
        "profile {profile} puts at most {} of its {} slots into one zone; the zones ({}) have \
         room for {room}",
        profile.parity(),
        profile.shards(),
        zones.join(", "),
    )
}

fn too_few(view: &View<'_>, wished: VolumeKind, all: &[Candidate], living: &[Candidate]) -> String {
    let what = match wished.domain {
        Domain::Node => "nodes",
        Domain::Disk => "disks",
    };
    let mut silent = Vec::new();
    let mut closed = Vec::new();
    for node in view.storage_nodes() {
        if !view.alive.contains(&node.id) {
            silent.push(node.id.to_string());
        } else if !living.iter().any(|candidate| candidate.node == node.id) {
            closed.push(node.id.to_string());
        }
    }
    let mut why = format!(
        "profile {} needs at least {} living {what}; {} of {} take shards",
        wished.profile,
        wished.profile.parity() + 1,
        living.len(),
        all.len(),
    );
    if !silent.is_empty() {
        why.push_str(&format!("; silent: {}", silent.join(", ")));
    }
    if !closed.is_empty() {
        why.push_str(&format!("; all disks closed: {}", closed.join(", ")));
    }
    why
}
