//! Writes the report for people.

use megalith_admin::report::{Health, KeysReport, Report};
use std::fmt::{self, Write};

/// Bytes with a binary unit, one decimal.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let power = (self.0.ilog2() / 10).min(6);
        let unit = UNITS[power as usize - 1];
        let tenths = (u128::from(self.0) * 10) >> (10 * power);
        write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

/// Renders a report; every line is ended.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    write_report(&mut out, report).expect("writing to a string does not fail");
    out
}

/// Renders the metadata members; every line is ended.
pub fn members(report: &Report) -> String {
    let mut out = String::new();
    write_members(&mut out, report).expect("writing to a string does not fail");
    out
}

fn write_report(out: &mut String, report: &Report) -> fmt::Result {
    let verdict = match report.health {
        Health::Healthy => "healthy",
        Health::Degraded => "degraded",
        Health::NotServing => "NOT SERVING",
    };
    match &report.cluster {
        Some(cluster) => writeln!(out, "cluster {cluster}: {verdict}")?,
        None => writeln!(out, "cluster: {verdict}")?,
    }
    for reason in &report.reasons {
        writeln!(out, "  ! {reason}")?;
    }
    for note in &report.notes {
        writeln!(out, "  - {note}")?;
    }
    if report.cluster.is_none() {
        return Ok(());
    }
    level(out, report)?;
    keys(out, report)?;
    write_members(out, report)?;
    nodes(out, report)?;
    volumes(out, report)?;
    data(out, report)
}

fn level(out: &mut String, report: &Report) -> fmt::Result {
    let Some(report) = &report.level else {
        return Ok(());
    };
    let (level, highest) = (report.level, report.highest);
    write!(out, "\nlevel {level}")?;
    match (highest > level, report.held_back_by.is_empty()) {
        (false, _) => writeln!(out),
        (true, true) => writeln!(
            out,
            "; every process runs {highest}, too: `megalith meta raise-level`"
        ),
        (true, false) => {
            writeln!(out, "; {highest} is held back")?;
            for process in &report.held_back_by {
                writeln!(out, "  {process}")?;
            }
            Ok(())
        }
    }
}

fn keys(out: &mut String, report: &Report) -> fmt::Result {
    let Some(keys) = &report.keys else {
        return Ok(());
    };
    let KeysReport {
        version,
        resealed,
        left,
        ..
    } = keys;
    write!(
        out,
        "\nrows under key-encryption key {version}: {resealed} sealed again, "
    )?;
    match (keys.passed_all, keys.dropped_ms) {
        (false, _) => writeln!(out, "{left} left and access keys"),
        (true, _) if *left > 0 => writeln!(out, "{left} do not open"),
        (true, None) => writeln!(out, "none left"),
        (true, Some(_)) => writeln!(out, "none left; the older keys are deleted"),
    }
}

fn write_members(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(out, "\nmetadata members")?;
    for member in &report.metadata.members {
        let role = match (member.leader, member.voter) {
            (true, _) => "leader",
            (false, true) => "follower",
            (false, false) => "learner",
        };
        let state = match (member.alive, member.behind) {
            (false, _) => "not heard from".to_owned(),
            (true, 0) => "up to date".to_owned(),
            (true, behind) => format!("{behind} entries behind"),
        };
        writeln!(
            out,
            "  {:<5} {role:<9} {:<24} {state}",
            member.node, member.address
        )?;
    }
    Ok(())
}

fn nodes(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(out, "\nstorage nodes")?;
    for node in &report.nodes {
        let state = if node.alive { "alive" } else { "SILENT" };
        let zone = if node.zone.is_empty() { "" } else { "  zone " };
        writeln!(out, "  {:<5} {state}{zone}{}", node.node, node.zone)?;
        for disk in &node.disks {
            // The shown use is what isn't free: blocks reserved for root are neither free nor used.
            let free = Bytes(disk.capacity.saturating_sub(disk.used));
            let capacity = Bytes(disk.capacity);
            write!(out, "        disk {}  {free} free of {capacity}", disk.disk)?;
            if let Some(reason) = &disk.closed {
                write!(out, "  CLOSED: {reason}")?;
            }
            if disk.damaged_shards > 0 {
                write!(out, "  {} damaged shards seen", disk.damaged_shards)?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

fn volumes(out: &mut String, report: &Report) -> fmt::Result {
    const SHOWN_MAX: usize = 12;
    writeln!(out, "\nvolumes ({})", report.volumes.len())?;
    for volume in report.volumes.iter().rev().take(SHOWN_MAX) {
        let shrunk = if volume.shrunk { "  shrunk" } else { "" };
        writeln!(
            out,
            "  {:<5} {:<6} {:<7} {}/{} slots live  {}{shrunk}",
            volume.volume,
            volume.profile,
            volume.state,
            volume.living,
            volume.members,
            Bytes(volume.bytes),
        )?;
    }
    if report.volumes.len() > SHOWN_MAX {
        writeln!(
            out,
            "  … and {} older ones (-o json)",
            report.volumes.len() - SHOWN_MAX
        )?;
    }
    Ok(())
}

fn data(out: &mut String, report: &Report) -> fmt::Result {
    let data = &report.data;
    writeln!(out, "\ndata")?;
    writeln!(
        out,
        "  {} objects, {} in {} buckets; {} uploads in progress",
        data.objects,
        Bytes(data.bytes),
        data.buckets,
        data.uploads,
    )?;
    writeln!(
        out,
        "  {} small objects kept with the metadata",
        data.inline_blobs
    )?;
    for row in &data.segments_by_margin {
        let meaning = match row.margin {
            margin if margin < 0 => "UNREADABLE now".to_owned(),
            0 => "readable, nothing more may be lost".to_owned(),
            1 => "1 more shard may be lost".to_owned(),
            margin => format!("{margin} more shards may be lost"),
        };
        writeln!(out, "  {:>10} segments: {meaning}", row.segments)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn bytes_have_one_decimal_and_a_unit() {
        let shown = |bytes| Bytes(bytes).to_string();
        assert_eq!(shown(1_023), "1023 B");
        assert_eq!(shown(1_536), "1.5 KiB");
        assert_eq!(shown(1 << 40), "1.0 TiB");
        assert_eq!(shown(u64::MAX), "15.9 EiB");
    }
}
