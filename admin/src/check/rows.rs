//! Compares the rows with each other.

use super::{CheckClients, RowsReport};
use megalith_client::{StillError, StillRows};
use megalith_model::check::{BEGIN_AFTER, Checked, RowCheck};

/// How often a check begins again because the member has let its view go.
const BEGUN_MAX: u32 = 3;
/// Rows between two words about how far it is.
const TELL_ROWS: u64 = 1 << 20;

/// Why the rows were not compared.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowsError {
    #[error(transparent)]
    Still(#[from] StillError),
    /// Something differs, and what it is was never named.
    #[error("{0}")]
    LeftOut(String),
}

type Tell<'a> = &'a mut (dyn FnMut(String) + Send);

pub(super) async fn compare(
    clients: &CheckClients,
    tell: Tell<'_>,
) -> Result<RowsReport, RowsError> {
    let mut begun = 0;
    loop {
        begun += 1;
        let mut rows = StillRows::new(clients.rows.clone(), clients.members);
        match once(&mut rows, tell).await {
            Err(RowsError::Still(StillError::Forgotten)) if begun < BEGUN_MAX => {
                tell("the member has let its view of the rows go: once more".to_owned());
            }
            ended => return ended,
        }
    }
}

/// Looks at all rows, and once more at those that may contradict each other.
async fn once(rows: &mut StillRows, tell: Tell<'_>) -> Result<RowsReport, RowsError> {
    let (entry, mut checked) = pass(rows, RowCheck::default(), tell).await?;
    if !checked.suspects.is_empty() {
        tell("something differs: looking closer".to_owned());
        (_, checked) = pass(rows, RowCheck::closer(checked.suspects), tell).await?;
    }
    let named = checked.findings.named;
    if named.is_empty() && !checked.left_out.is_empty() {
        return Err(RowsError::LeftOut(checked.left_out.join("; ")));
    }
    Ok(RowsReport {
        entry,
        rows: checked.rows,
        sealed: checked.sealed,
        findings: named.into_iter().map(Into::into).collect(),
        more: checked.findings.more,
    })
}

async fn pass(
    rows: &mut StillRows,
    mut check: RowCheck,
    tell: Tell<'_>,
) -> Result<(u64, Checked), StillError> {
    let mut seen = 0_u64;
    let mut take = |check: &mut RowCheck, key: &[u8], value: &[u8]| {
        check.row(key, value);
        seen += 1;
        if seen.is_multiple_of(TELL_ROWS) {
            tell(format!("{seen} rows compared"));
        }
    };
    let each = &mut |key: &[u8], value: &[u8]| {
        take(&mut check, key, value);
        true
    };
    let entry = rows.read(BEGIN_AFTER, each).await?;
    check.second_run();
    let each = &mut |key: &[u8], value: &[u8]| {
        let wanted = key <= BEGIN_AFTER;
        if wanted {
            take(&mut check, key, value);
        }
        wanted
    };
    rows.read(&[], each).await?;
    Ok((entry.unwrap_or_default(), check.finish()))
}
