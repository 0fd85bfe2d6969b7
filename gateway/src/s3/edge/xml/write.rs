//! Writes documents.

use bytes::Bytes;
use std::fmt::Display;

const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// A document, written from beginning to end.
pub(in crate::s3) struct Xml(String);

impl Xml {
    /// Writes a document in S3's namespace.
    pub(in crate::s3) fn document(root: &str, write: impl FnOnce(&mut Self)) -> Self {
        let mut xml = Self(String::from(DECLARATION));
        xml.with(root, &[("xmlns", NAMESPACE)], write);
        xml
    }

    /// Writes a document without a namespace; some of S3's have none.
    pub(in crate::s3) fn plain(root: &str, write: impl FnOnce(&mut Self)) -> Self {
        let mut xml = Self(String::from(DECLARATION));
        xml.with(root, &[], write);
        xml
    }

    /// Writes an element that contains others.
    pub(in crate::s3) fn element(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.with(name, &[], write);
    }

    /// Writes an element with attributes.
    pub(in crate::s3) fn with(
        &mut self,
        name: &str,
        attributes: &[(&str, &str)],
        write: impl FnOnce(&mut Self),
    ) {
        self.0.push('<');
        self.0.push_str(name);
        for (name, value) in attributes {
            self.0.push(' ');
            self.0.push_str(name);
            self.0.push_str("=\"");
            for part in value.split_inclusive('"') {
                self.put(part.trim_end_matches('"'));
                if part.ends_with('"') {
                    self.0.push_str("&quot;");
                }
            }
            self.0.push('"');
        }
        self.0.push('>');
        write(self);
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
    }

    /// Writes an element with a text.
    pub(in crate::s3) fn text(&mut self, name: &str, text: &str) {
        self.with(name, &[], |xml| xml.put(text));
    }

    /// Writes an element with a text, if there is one.
    pub(in crate::s3) fn text_if<T: AsRef<str>>(&mut self, name: &str, text: Option<T>) {
        if let Some(text) = text {
            self.text(name, text.as_ref());
        }
    }

    /// Writes an element with a number or a truth value.
    pub(in crate::s3) fn value(&mut self, name: &str, value: impl Display) {
        self.text(name, &value.to_string());
    }

    /// Writes a text into an element that has just begun.
    pub(in crate::s3) fn put(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '\t' | '\n' => self.0.push(character),
                // A reader would take a carriage return for a line feed, and fails at the others.
                // XML 1.0 has no way to write those; S3 writes them like this as well. Nobody reads
                // a reference to NUL, so that stays as it is.
                '\u{1}'..' ' | '\u{7f}'..'\u{a0}' | '\u{fffe}' | '\u{ffff}' => {
                    self.0.push_str(&format!("&#x{:x};", u32::from(character)));
                }
                other => self.0.push(other),
            }
        }
    }

    pub(in crate::s3) fn into_bytes(self) -> Bytes {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped() {
        let xml = Xml::document("A", |xml| {
            xml.text("B", "<&>\"\r\u{fc}\t\n\u{1}\u{1f}\u{7f}\u{85}\u{fffe}");
            xml.text_if("C", None::<&str>);
            xml.element("D", |xml| xml.value("E", 7));
            xml.with("F", &[("g", "\"h\"")], |_| {});
        });
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
                        <A xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                        <B>&lt;&amp;&gt;\"&#xd;ü\t\n&#x1;&#x1f;&#x7f;&#x85;&#xfffe;</B>\
                        <D><E>7</E></D>\
                        <F g=\"&quot;h&quot;\"></F></A>";
        assert_eq!(xml.into_bytes(), expected);
    }
}
