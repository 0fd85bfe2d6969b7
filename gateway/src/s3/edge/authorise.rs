//! Who may do what.

use super::auth::Verified;
use super::error::{Code, S3Error};
use super::route::Route;
use super::target::Target;
use crate::ops::Caller;
use http::HeaderMap;

/// Leave to run one operation on one resource. Only [`authorise`] gives it, and operations run
/// only with one.
pub(in crate::s3) struct Granted(Caller);

impl Granted {
    /// Who asks.
    pub(in crate::s3) fn caller(&self) -> Caller {
        self.0
    }
}

/// Judges whether who signed a request may run an operation.
///
/// Today the owner of a bucket may do everything with it and nobody else anything, which the core
/// checks against the bucket's sealed row; policies will be judged here. What the client itself
/// expects of the bucket's owner is checked here for all operations alike.
///
/// # Errors
/// `AccessDenied`.
pub(super) fn authorise(
    verified: &Verified,
    _action: &Route,
    resource: &Target,
    headers: &HeaderMap,
) -> Result<Granted, S3Error> {
    let caller = verified.caller();
    let expectations = match resource {
        Target::Service => &[][..],
        Target::Bucket(_) => &["x-amz-expected-bucket-owner"],
        Target::Object { .. } => &[
            "x-amz-expected-bucket-owner",
            "x-amz-source-expected-bucket-owner",
        ],
    };
    for name in expectations {
        for expected in headers.get_all(*name) {
            let expected = expected.as_bytes();
            let is_caller = expected == account_number(caller).as_bytes()
                || expected == owner_id(caller).as_bytes();
            if !expected.is_empty() && !is_caller {
                return Err(Code::AccessDenied.into());
            }
        }
    }
    Ok(Granted(caller))
}

/// An account as S3 shows owners.
pub(in crate::s3) fn owner_id(caller: Caller) -> String {
    format!("{:064x}", caller.account.0)
}

/// An account as `x-amz-expected-bucket-owner` names it: 12 decimal digits.
fn account_number(caller: Caller) -> String {
    format!("{:012}", caller.account.0)
}
