//! What a request claims about its own signature: the `Authorization` header, or a URL's query.

use super::ALGORITHM;
use super::key::{Scope, Signature};
use super::time::AmzTime;

/// What a request claims about its signature. None of it is verified.
#[derive(Clone, Debug)]
pub struct Claim {
    pub access_key: String,
    pub scope: Scope,
    /// In lower case, sorted, each once.
    pub signed_headers: Vec<String>,
    pub signature: Signature,
}

/// What a presigned URL claims in addition.
#[derive(Clone, Debug)]
pub struct Presigned {
    pub claim: Claim,
    pub time: AmzTime,
    /// How long it is valid after that, in seconds.
    pub expires_seconds: u64,
}

/// Why a claim can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Another algorithm, or another kind of authorization.
    #[error("unsupported authorization type")]
    Algorithm,
    #[error("the credential is malformed")]
    Credential,
    #[error("the list of signed headers is malformed")]
    SignedHeaders,
    #[error("the signature is malformed")]
    Signature,
    #[error("the time is malformed")]
    Time,
    #[error("the lifetime is malformed")]
    Expires,
    /// A field is missing, occurs twice, or is unknown.
    #[error("a field is missing, repeated or unknown")]
    Fields,
}

impl Claim {
    /// Reads an `Authorization` header.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub fn parse_header(text: &str) -> Result<Self, ClaimError> {
        let (algorithm, fields) = text.split_once(' ').ok_or(ClaimError::Fields)?;
        if algorithm != ALGORITHM {
            return Err(ClaimError::Algorithm);
        }
        let (mut credential, mut signed, mut signature) = (None, None, None);
        for field in fields.split(',') {
            let (name, value) = field.trim().split_once('=').ok_or(ClaimError::Fields)?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed,
                "Signature" => &mut signature,
                _ => return Err(ClaimError::Fields),
            };
            if slot.replace(value).is_some() {
                return Err(ClaimError::Fields);
            }
        }
        let fields = (credential, signed, signature);
        let (Some(credential), Some(signed), Some(signature)) = fields else {
            return Err(ClaimError::Fields);
        };
        Self::of(credential, signed, signature)
    }

    fn of(credential: &str, signed: &str, signature: &str) -> Result<Self, ClaimError> {
        let (access_key, scope) = credential_of(credential).ok_or(ClaimError::Credential)?;
        Ok(Self {
            access_key,
            scope,
            signed_headers: names_of(signed).ok_or(ClaimError::SignedHeaders)?,
            signature: Signature::parse(signature.as_bytes()).ok_or(ClaimError::Signature)?,
        })
    }
}

impl Presigned {
    /// Reads a query. None of its fields may occur twice.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub fn parse_query(query: &[(String, String)]) -> Result<Self, ClaimError> {
        let field = |name: &str| {
            let mut found = query.iter().filter(|(found, _)| found == name);
            let (_, value) = found.next().ok_or(ClaimError::Fields)?;
            match found.next() {
                None => Ok(value.as_str()),
                Some(_) => Err(ClaimError::Fields),
            }
        };
        if field("X-Amz-Algorithm")? != ALGORITHM {
            return Err(ClaimError::Algorithm);
        }
        let expires = field("X-Amz-Expires")?;
        let digits = !expires.is_empty() && expires.bytes().all(|byte| byte.is_ascii_digit());
        let expires_seconds = expires
            .parse()
            .ok()
            .filter(|_| digits)
            .ok_or(ClaimError::Expires)?;
        let claim = Claim::of(
            field("X-Amz-Credential")?,
            field("X-Amz-SignedHeaders")?,
            field("X-Amz-Signature")?,
        )?;
        Ok(Self {
            claim,
            time: AmzTime::parse(field("X-Amz-Date")?).ok_or(ClaimError::Time)?,
            expires_seconds,
        })
    }
}

/// Reads `<access key>/<date>/<region>/<service>/aws4_request` from the right, because an access
/// key may contain slashes.
fn credential_of(text: &str) -> Option<(String, Scope)> {
    let mut fields = text.rsplitn(5, '/');
    let (end, service, region) = (fields.next()?, fields.next()?, fields.next()?);
    let (date, access_key) = (fields.next()?, fields.next()?);
    let is_date = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
    let valid = end == "aws4_request" && is_date && !access_key.is_empty();
    valid.then(|| {
        let scope = Scope {
            date: date.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
        };
        (access_key.to_owned(), scope)
    })
}

fn names_of(text: &str) -> Option<Vec<String>> {
    let mut names: Vec<String> = text.split(';').map(str::to_ascii_lowercase).collect();
    names.sort_unstable();
    let twice = names.windows(2).any(|pair| pair[0] == pair[1]);
    let empty = names.iter().any(String::is_empty);
    (!twice && !empty).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn header(credential: &str, signed: &str, signature: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, \
             Signature={signature}"
        )
    }

    #[test]
    fn headers() {
        let credential = "A/K/20130524/us-east-1/s3/aws4_request";
        let text = header(credential, "x-amz-date;Host", SIGNATURE);
        for text in [&text, &text.replace(", ", ","), &text.replace(", ", " ,  ")] {
            let claim = Claim::parse_header(text).expect("a claim");
            assert_eq!(claim.access_key, "A/K");
            assert_eq!(claim.scope.to_string(), &credential[4..]);
            assert_eq!(claim.signed_headers, ["host", "x-amz-date"]);
            assert_eq!(claim.signature.to_hex(), SIGNATURE);
        }
    }

    #[test]
    fn malformed_headers() {
        use ClaimError::{Algorithm, Credential, Fields, SignedHeaders};
        let good = "AK/20130524/us-east-1/s3/aws4_request";
        let check = |text: &str, expected| {
            let error = Claim::parse_header(text).expect_err(text);
            assert_eq!(error, expected, "{text}");
        };
        check("", Fields);
        check("AWS4-HMAC-SHA256", Fields);
        check("Bearer x", Algorithm);
        check("AWS4-HMAC-SHA256 Credential=x", Fields);
        let text = header(good, "host", SIGNATURE);
        check(&format!("{text}, Signature={SIGNATURE}"), Fields);
        check(&format!("{text}, More=1"), Fields);
        check(&format!("{text},"), Fields);
        check(
            &header("AK/20130524/r/s3/aws5_request", "host", SIGNATURE),
            Credential,
        );
        check(
            &header("/20130524/r/s3/aws4_request", "host", SIGNATURE),
            Credential,
        );
        check(
            &header("AK/2013052/r/s3/aws4_request", "host", SIGNATURE),
            Credential,
        );
        check(&header("r/s3/aws4_request", "host", SIGNATURE), Credential);
        check(&header(good, "", SIGNATURE), SignedHeaders);
        check(&header(good, "host;;date", SIGNATURE), SignedHeaders);
        check(&header(good, "host;HOST", SIGNATURE), SignedHeaders);
        check(&header(good, "host", "0"), ClaimError::Signature);
    }

    #[test]
    fn urls() {
        let pairs = [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", "AK/20130524/us-east-1/s3/aws4_request"),
            ("X-Amz-Date", "20130524T000000Z"),
            ("X-Amz-Expires", "86400"),
            ("X-Amz-SignedHeaders", "host"),
            ("X-Amz-Signature", SIGNATURE),
        ];
        let pairs: Vec<_> = pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let presigned = Presigned::parse_query(&pairs).expect("a claim");
        assert_eq!(presigned.expires_seconds, 86_400);
        for index in 0..pairs.len() {
            let mut fewer = pairs.clone();
            fewer.remove(index);
            assert_eq!(
                Presigned::parse_query(&fewer).err(),
                Some(ClaimError::Fields)
            );
            let mut twice = pairs.clone();
            twice.push(pairs[index].clone());
            assert_eq!(
                Presigned::parse_query(&twice).err(),
                Some(ClaimError::Fields)
            );
        }
        for bad in ["", "-1", "+1", "1.5", "x", "99999999999999999999999"] {
            let mut other = pairs.clone();
            other[3].1 = bad.to_owned();
            let error = Presigned::parse_query(&other).err();
            assert_eq!(error, Some(ClaimError::Expires), "{bad}");
        }
    }
}
