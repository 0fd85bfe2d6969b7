//! Documents that come in, and those that go out.
//!
//! Input: a byte; if it is even, a document. Else texts, each with its length before it (1 byte,
//! 0 ends), then how to spell them. What a document says doesn't depend on prefixes, blanks,
//! comments, CDATA or references; a DOCTYPE is refused; what we write reads back.

use crate::edit::Script;
use megalith_gateway::s3::fuzz::{read_documents, read_texts, write_texts};

const ETAG: &str = "\"0123456789abcdef0123456789abcdef\"";
/// The most texts of a document, and the longest of them, in bytes.
const TEXTS_MAX: usize = 8;
const TEXT_MAX: usize = 40;

pub fn target(data: &[u8]) {
    let mut script = Script(data);
    match script.byte() {
        None => {}
        Some(kind) if kind & 1 == 0 => any(script.0),
        Some(_) => {
            let texts = texts(&mut script);
            let plain = write_texts("r", "a", &texts);
            assert_eq!(read_texts(&plain, "r", "a").as_ref(), Some(&texts));
            spelled(&texts, script);
        }
    }
}

/// Any bytes.
fn any(document: &[u8]) {
    let said = read_documents(document);
    if !document.is_empty() {
        let longer = [document, b"\n<!-- end -->\n"].concat();
        let again = read_documents(&longer);
        for (said, again) in said.iter().zip(again) {
            assert!(said.is_err() || *said == again, "{said:?} and {again:?}");
        }
    }
    for said in read_documents(&[b"<!DOCTYPE r>", document].concat()) {
        assert!(said.is_err(), "a DOCTYPE passes: {said:?}");
    }
    if let Some(texts) = read_texts(document, "r", "a") {
        let written = write_texts("r", "a", &texts);
        assert_eq!(read_texts(&written, "r", "a"), Some(texts));
    }
}

fn texts(script: &mut Script<'_>) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(len) = script.byte().map(usize::from) {
        if len == 0 || texts.len() == TEXTS_MAX {
            break;
        }
        let len = len.min(TEXT_MAX).min(script.0.len());
        let text = script.take(len).unwrap_or_default();
        texts.push(String::from_utf8_lossy(text).into_owned());
    }
    texts
}

/// The same document, spelled plainly and as the script says.
fn spelled(texts: &[String], script: Script<'_>) {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    let legal = |text: &String| text.chars().filter(|c| allowed(*c)).collect::<String>();
    let texts: Vec<_> = texts.iter().map(legal).collect();
    let of_texts: Vec<_> = texts.iter().map(|text| text_of("a", text)).collect();
    let fancy = Spelling::of(script).document("r", &of_texts);
    let read = read_texts(fancy.as_bytes(), "r", "a");
    assert_eq!(read.as_ref(), Some(&texts), "{fancy}");
    for (kind, (root, within)) in documents(&texts).into_iter().enumerate() {
        let plain = Spelling::of(Script(b"")).document(root, &within);
        let fancy = Spelling::of(script).document(root, &within);
        let said = read_documents(plain.as_bytes())[kind].clone();
        assert!(said.is_ok(), "{plain}: {said:?}");
        assert_eq!(read_documents(fancy.as_bytes())[kind], said, "{fancy}");
        if kind == 0 {
            let said = said.unwrap_or_default();
            let lost = |text: &&String| !said.contains(&format!("key: {text:?}"));
            assert_eq!(texts.iter().find(lost), None, "{said}");
        }
        let refused = fancy.replacen("<!---->", "<!DOCTYPE r [<!ENTITY e 'x'>]>", 1);
        assert!(
            read_documents(refused.as_bytes())[kind].is_err(),
            "{refused}"
        );
    }
}

/// An element with a text or with others.
struct Element(&'static str, Result<String, Vec<Element>>);

fn text_of(name: &'static str, text: &str) -> Element {
    Element(name, Ok(text.to_owned()))
}

/// The documents of each kind, in the order of `read_documents`.
fn documents(texts: &[String]) -> [(&'static str, Vec<Element>); 3] {
    let object = |key: &str| {
        let version = text_of("VersionId", key);
        Element("Object", Err(vec![text_of("Key", key), version]))
    };
    let part = |number: usize| {
        let number = text_of("PartNumber", &number.to_string());
        Element("Part", Err(vec![number, text_of("ETag", ETAG)]))
    };
    // One at least of each.
    let mut objects: Vec<_> = texts.iter().map(|text| object(text)).collect();
    objects.push(object("last"));
    objects.push(text_of("Quiet", "true"));
    let parts = (0..=texts.len()).map(part).collect();
    let location = texts.first().map(String::as_str).unwrap_or("here");
    [
        ("Delete", objects),
        ("CompleteMultipartUpload", parts),
        (
            "CreateBucketConfiguration",
            vec![text_of("LocationConstraint", location)],
        ),
    ]
}

/// Writes documents as a script says; plainly once that has ended.
struct Spelling<'a> {
    script: Script<'a>,
    prefix: &'static str,
    out: String,
}

impl<'a> Spelling<'a> {
    fn of(mut script: Script<'a>) -> Self {
        let prefixes = ["", "s3:", "a.b-c:", "\u{fc}:"];
        let prefix = prefixes[usize::from(script.byte().unwrap_or(0)) % prefixes.len()];
        let out = String::new();
        Self {
            script,
            prefix,
            out,
        }
    }

    /// The next choice of so many; the first once the script has ended.
    fn choice(&mut self, count: u8) -> u8 {
        self.script.byte().unwrap_or(0) % count
    }

    /// What may stand between elements and says nothing.
    fn between(&mut self) {
        let text = match self.choice(7) {
            0 => "",
            1 => "\n  ",
            2 => "\t\r\n",
            3 => "<!-- <Key>no</Key> & -->",
            4 => "<?target <Key>?>",
            5 => "<unknown><Key>no</Key><a/></unknown>",
            _ => "<unknown k='>'/>",
        };
        self.out.push_str(text);
    }

    fn document(mut self, root: &str, within: &[Element]) -> String {
        if self.choice(2) == 1 {
            self.out
                .push_str("<?xml version='1.0' encoding='UTF-8'?>\n");
        }
        // Where a DOCTYPE could stand.
        self.out.push_str("<!---->");
        self.begin(root);
        within.iter().for_each(|element| self.element(element));
        self.between();
        self.end(root);
        self.out
    }

    fn begin(&mut self, name: &str) {
        let attributes = match self.choice(4) {
            0 => "",
            1 => " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"",
            2 => "\n xml:space = 'preserve' ",
            _ => " k='>' l=\"/>\"",
        };
        self.out
            .push_str(&format!("<{}{name}{attributes}>", self.prefix));
    }

    fn end(&mut self, name: &str) {
        let blank = ["", " ", "\n"][usize::from(self.choice(3))];
        self.out
            .push_str(&format!("</{}{name}{blank}>", self.prefix));
    }

    fn element(&mut self, Element(name, within): &Element) {
        self.between();
        match within {
            Ok(text) if text.is_empty() && self.choice(2) == 1 => {
                self.out.push_str(&format!("<{}{name} />", self.prefix));
            }
            Ok(text) => {
                self.begin(name);
                text.chars().for_each(|character| self.character(character));
                self.end(name);
            }
            Err(elements) => {
                self.begin(name);
                elements.iter().for_each(|element| self.element(element));
                self.between();
                self.end(name);
            }
        }
    }

    fn character(&mut self, character: char) {
        let number = u32::from(character);
        let text = match (self.choice(6), character) {
            (1, _) => format!("&#{number};"),
            (2, _) => format!("&#x{number:X};"),
            // A line end may be read as another one if it stands there as it is.
            (_, '\r') => "&#13;".to_owned(),
            (3, _) => format!("<![CDATA[{character}]]>"),
            (4, '\'') => "&apos;".to_owned(),
            (4, '"') => "&quot;".to_owned(),
            (_, '&') => "&amp;".to_owned(),
            (_, '<') => "&lt;".to_owned(),
            (_, '>') => "&gt;".to_owned(),
            (5, _) => format!("<!-- - -->{character}<?p?>"),
            _ => character.to_string(),
        };
        self.out.push_str(&text);
    }
}

/// The first inputs.
#[must_use]
pub fn seeds() -> crate::Seeds {
    let raw = |document: &str| [b"\0", document.as_bytes()].concat();
    let texts = |texts: &[&str], spelling: &[u8]| {
        let mut input = vec![1];
        for text in texts {
            input.push(u8::try_from(text.len()).unwrap_or(0));
            input.extend_from_slice(text.as_bytes());
        }
        input.push(0);
        input.extend_from_slice(spelling);
        input
    };
    let all = (0..=255).collect::<Vec<u8>>();
    let deep = "<b>".repeat(500);
    crate::named(vec![
        (
            "delete",
            raw("<Delete><Quiet>true</Quiet><Object><Key>a&amp;b</Key></Object></Delete>"),
        ),
        (
            "parts",
            raw(&format!(
                "<CompleteMultipartUpload><Part><ETag>{ETAG}</ETag><PartNumber>1</PartNumber>\
                 <ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part></CompleteMultipartUpload>"
            )),
        ),
        (
            "location",
            raw(
                "<CreateBucketConfiguration xmlns='n'><LocationConstraint>here\
                 </LocationConstraint></CreateBucketConfiguration>",
            ),
        ),
        (
            "texts",
            raw("<r><a>x<![CDATA[<&>]]>&#x20ac;</a><a/><b><a/></b></r>"),
        ),
        ("prefix", raw("<s:r xmlns:s='n'><s:a>x</s:a></s:r>")),
        (
            "doctype",
            raw("<!DOCTYPE r [<!ENTITY e 'x'>]><r><a>&e;</a></r>"),
        ),
        ("doctype-within", raw("<r><!DOCTYPE r><a>x</a></r>")),
        ("unknown-entity", raw("<r><a>&e;</a></r>")),
        ("surrogate", raw("<r><a>&#xD800;</a></r>")),
        (
            "beyond-unicode",
            raw("<r><a>&#x110000;&#99999999999;</a></r>"),
        ),
        ("not-utf-8", b"\0<r><a>\xff</a></r>".to_vec()),
        ("byte-order-mark", raw("\u{feff}<r><a>x</a></r>")),
        ("deep", raw(&format!("<r>{deep}"))),
        ("two-roots", raw("<r/><r/>")),
        ("cut-off", raw("<Delete><Object><Key>a")),
        ("spelled-plainly", texts(&["key", "", "a/b"], b"")),
        (
            "spelled-oddly",
            texts(&["k<&>\"'\r\n\t", "\u{fc}]]>"], &all),
        ),
        (
            "spelled-with-prefix",
            texts(&["key"], &[1, 1, 1, 1, 1, 1, 1]),
        ),
        (
            "controls",
            texts(&["\0\u{1}\u{1b}\u{7f}\u{85}\u{2028}"], b""),
        ),
    ])
}
