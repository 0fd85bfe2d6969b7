//! Decides who may do what.

use super::auth::Verified;
use super::error::{Code, S3Error};
use super::route::Route;
use super::target::Target;
use crate::ops::Caller;
use http::HeaderMap;

/// Permission to run one operation on one resource. Only [`authorise`] gives it, and no operation
/// runs without it.
pub(in crate::s3) struct Granted(Caller);

impl Granted {
    /// Returns the caller.
    pub(in crate::s3) fn caller(&self) -> Caller {
        self.0
    }
}

/// Decides whether the signer of a request may run an operation.
///
/// Today the owner of a bucket may do everything with it and no one else may do anything; the core
/// checks that against the bucket's sealed row. Policies will be judged here. The client's own
/// expectation of the bucket's owner is checked here, in the same way for all operations.
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

/// Returns an account in the form in which S3 shows owners.
pub(in crate::s3) fn owner_id(caller: Caller) -> String {
    format!("{:064x}", caller.account.0)
}

/// Returns an account in the form that `x-amz-expected-bucket-owner` uses: 12 decimal digits.
fn account_number(caller: Caller) -> String {
    format!("{:012}", caller.account.0)
}
