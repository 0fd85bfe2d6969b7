//! What an answer of the Transit engine means: a pure reading of its status and body.

use crate::root::RootError;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// The longest text of the service in a message, in letters.
const WHY_MAX: usize = 300;

/// What was called, for messages.
pub(super) struct Called<'a> {
    pub(super) service: String,
    pub(super) path: String,
    pub(super) mount: &'a str,
    pub(super) key: &'a str,
    pub(super) token_file: &'a str,
}

/// What an answer brings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Data {
    pub(super) ciphertext: Option<String>,
    /// In base64, one for each ciphertext that was sent.
    pub(super) plaintexts: Vec<Zeroizing<String>>,
}

/// Why it brings nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Root(RootError),
    /// The ciphertext at this place of those that were sent is not one of the key.
    Closed(usize),
}

impl From<RootError> for Fault {
    fn from(error: RootError) -> Self {
        Self::Root(error)
    }
}

#[derive(Deserialize, Default)]
struct Body {
    #[serde(default)]
    errors: Option<Vec<String>>,
    #[serde(default)]
    data: Option<Fields>,
}

#[derive(Deserialize, Default)]
struct Fields {
    #[serde(default)]
    ciphertext: Option<String>,
    #[serde(default)]
    plaintext: Option<Secret>,
    #[serde(default)]
    batch_results: Option<Vec<Item>>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    plaintext: Option<Secret>,
    #[serde(default)]
    error: Option<String>,
}

/// A text that is wiped.
struct Secret(Zeroizing<String>);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        String::deserialize(text).map(|text| Self(Zeroizing::new(text)))
    }
}

impl Called<'_> {
    pub(super) fn unreachable(&self, why: String) -> RootError {
        let service = self.service.clone();
        RootError::Unreachable { service, why }
    }
}

/// Reads an answer.
pub(super) fn judge(called: &Called<'_>, status: u16, body: &[u8]) -> Result<Data, Fault> {
    let read = serde_json::from_slice::<Body>(body);
    let Body { errors, data } = match read {
        Ok(body) => body,
        // A proxy's page, or half an answer.
        Err(_) if status == 200 => return Err(called.unreachable("half an answer".into()).into()),
        Err(_) => Body::default(),
    };
    let Fields {
        ciphertext,
        plaintext,
        batch_results,
    } = data.unwrap_or_default();
    let items = batch_results.unwrap_or_default();
    // A batch of which some fail is a 400 whose errors stand with the items.
    for (at, item) in items.iter().enumerate() {
        if let Some(error) = item.error.as_deref().filter(|error| !error.is_empty()) {
            return Err(fault(called, 400, error, at));
        }
    }
    if status != 200 {
        let why = errors.unwrap_or_default().join(", ");
        return Err(fault(called, status, &why, 0));
    }
    let texts = items.into_iter().map(|item| item.plaintext);
    let plaintexts = plaintext.map(Some).into_iter().chain(texts).flatten();
    Ok(Data {
        ciphertext,
        plaintexts: plaintexts.map(|Secret(text)| text).collect(),
    })
}

fn fault(called: &Called<'_>, status: u16, why: &str, at: usize) -> Fault {
    let service = called.service.clone();
    let key = called.key.to_owned();
    let has = |text: &str| why.contains(text);
    let error = match status {
        503 if has("is sealed") => RootError::Sealed { service },
        403 => RootError::Denied {
            service,
            action: called.path.clone(),
            token_file: called.token_file.to_owned(),
        },
        404 => RootError::NoSuchMount {
            service,
            mount: called.mount.to_owned(),
        },
        400 if has("key not found") || has("policy not found") || has("soft-deleted") => {
            RootError::NoSuchKey { service, key }
        }
        400 if has("too old") => RootError::TooOld { service, key },
        400 if has("authentication failed") || has("invalid ciphertext") => {
            return Fault::Closed(at);
        }
        // Busy, standing by without a leader, or broken: it may be otherwise in a moment.
        429 | 472 | 473 | 500.. => called.unreachable(format!("{status} {}", short(why))),
        _ => RootError::Refused {
            service,
            status,
            why: short(why),
        },
    };
    Fault::Root(error)
}

/// Returns a text on one line, cut.
fn short(why: &str) -> String {
    let letter = |letter: char| if letter.is_control() { ' ' } else { letter };
    why.chars().map(letter).take(WHY_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called() -> Called<'static> {
        Called {
            service: "the key service at https://vault:8200".to_owned(),
            path: "transit/decrypt/mega".to_owned(),
            mount: "transit",
            key: "mega",
            token_file: "/run/token",
        }
    }

    fn check(status: u16, body: &str, expected: &str) {
        let fault = judge(&called(), status, body.as_bytes()).expect_err("no answer");
        let text = match fault {
            Fault::Root(error) => error.to_string(),
            Fault::Closed(at) => format!("closed: {at}"),
        };
        assert!(text.contains(expected), "{status} {body}: {text}");
        assert!(!text.contains('\n'));
    }

    /// Texts and statuses as OpenBao 2.7.2 gave them.
    #[test]
    fn each_answer_says_what_to_do() {
        check(
            503,
            r#"{"errors":["Vault is sealed"]}"#,
            "is sealed: unseal it",
        );
        let denied = "denies transit/decrypt/mega to the token in /run/token";
        check(403, r#"{"errors":["permission denied"]}"#, denied);
        let wrapped = r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#;
        check(403, wrapped, denied);
        let gone = r#"{"errors":["encryption key not found"]}"#;
        check(400, gone, r#"has no key "mega": it was deleted"#);
        let hidden = r#"{"errors":["refusing to use soft-deleted key"]}"#;
        check(400, hidden, r#"has no key "mega""#);
        let old = "ciphertext or signature version is disallowed by policy (too old)";
        check(
            400,
            &format!(r#"{{"errors":["{old}"]}}"#),
            "`megalith key reseal`",
        );
        let other = r#"{"errors":["cipher: message authentication failed"]}"#;
        check(400, other, "closed: 0");
        let route = r#"{"errors":["no handler for route \"x\". route entry not found."]}"#;
        check(404, route, r#"nothing mounted at "transit""#);
        let lost = "local node not active but active cluster node not found";
        check(500, &format!(r#"{{"errors":["{lost}"]}}"#), lost);
        check(429, r#"{"errors":["request path: rate limit"]}"#, "429");
        check(502, "<html>bad gateway</html>", "does not answer (502");
        check(307, "", "answers 307");
        check(200, "{", "half an answer");
    }

    #[test]
    fn a_batch_names_the_ciphertext_that_does_not_open() {
        let body = r#"{"data":{"batch_results":[{"plaintext":"QQ==","reference":""},
            {"plaintext":"","error":"cipher: message authentication failed"}]}}"#;
        check(400, body, "closed: 1");
        let body = r#"{"data":{"batch_results":[{"plaintext":"QQ=="},
            {"plaintext":"","error":"… is disallowed by policy (too old)"}]}}"#;
        check(400, body, "min_decryption_version");
    }

    #[test]
    fn plaintexts_come_in_their_order() {
        let read = |body: &str| {
            judge(&called(), 200, body.as_bytes())
                .expect("read")
                .plaintexts
        };
        let texts = |texts: Vec<Zeroizing<String>>| {
            texts
                .iter()
                .map(|text| text.to_string())
                .collect::<Vec<_>>()
        };
        let one = read(r#"{"request_id":"x","data":{"plaintext":"QQ=="},"warnings":null}"#);
        assert_eq!(texts(one), ["QQ=="]);
        let body = r#"{"data":{"batch_results":[{"plaintext":"QQ=="},{"plaintext":"Qg=="}]}}"#;
        assert_eq!(texts(read(body)), ["QQ==", "Qg=="]);
        assert!(read(r#"{"data":null,"errors":null}"#).is_empty());
    }
}
