//! Reads documents, element by element. Only the text that is asked for is held, and only the five
//! entities of XML itself are expanded.

use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::Event;
use quick_xml::name::QName;

/// A document that can't be read, or is not the expected one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed XML")]
pub(in crate::s3) struct Malformed;

/// What comes next in a document.
enum Token {
    Start(String),
    End,
    Text(String),
    Eof,
}

/// Reads a document.
pub(in crate::s3) struct Reader<'a> {
    inner: quick_xml::Reader<&'a [u8]>,
    /// An element without content has begun; its end comes next.
    empty: bool,
}

impl<'a> Reader<'a> {
    /// Reads a whole document whose root must have that name. `read` is called for each element
    /// within the root, and must consume it with one of this type's methods.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(in crate::s3) fn document(
        text: &'a [u8],
        root: &str,
        read: impl FnMut(&mut Self, &str) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let mut reader = Self {
            inner: quick_xml::Reader::from_reader(text),
            empty: false,
        };
        loop {
            match reader.next()? {
                Token::Start(name) if name == root => break,
                Token::Text(text) if text.trim().is_empty() => {}
                Token::Start(_) | Token::Text(_) | Token::End | Token::Eof => {
                    return Err(Malformed);
                }
            }
        }
        reader.children(read)?;
        loop {
            match reader.next()? {
                Token::Eof => return Ok(()),
                Token::Text(text) if text.trim().is_empty() => {}
                Token::Start(_) | Token::Text(_) | Token::End => return Err(Malformed),
            }
        }
    }

    /// Calls `read` for each element within the current one, up to its end.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(in crate::s3) fn children(
        &mut self,
        mut read: impl FnMut(&mut Self, &str) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        loop {
            match self.next()? {
                Token::Start(name) => read(self, &name)?,
                Token::Text(_) => {}
                Token::End => return Ok(()),
                Token::Eof => return Err(Malformed),
            }
        }
    }

    /// Reads the current element's text, up to its end.
    ///
    /// # Errors
    /// [`Malformed`], also if it contains elements.
    pub(in crate::s3) fn text(&mut self) -> Result<String, Malformed> {
        let mut all = String::new();
        loop {
            match self.next()? {
                Token::Text(text) => all.push_str(&text),
                Token::End => return Ok(all),
                Token::Start(_) | Token::Eof => return Err(Malformed),
            }
        }
    }

    /// Reads the current element's text into a field that may occur once.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(in crate::s3) fn text_into(&mut self, field: &mut Option<String>) -> Result<(), Malformed> {
        match field.replace(self.text()?) {
            None => Ok(()),
            Some(_) => Err(Malformed),
        }
    }

    /// Skips the current element and everything within it.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(in crate::s3) fn skip(&mut self) -> Result<(), Malformed> {
        let mut depth = 0_usize;
        loop {
            match self.next()? {
                Token::Start(_) => depth += 1,
                Token::End if depth == 0 => return Ok(()),
                Token::End => depth -= 1,
                Token::Text(_) => {}
                Token::Eof => return Err(Malformed),
            }
        }
    }

    fn next(&mut self) -> Result<Token, Malformed> {
        if std::mem::take(&mut self.empty) {
            return Ok(Token::End);
        }
        loop {
            let token = match self.inner.read_event().map_err(|_| Malformed)? {
                Event::Start(start) => Token::Start(name(start.name())?),
                Event::Empty(start) => {
                    self.empty = true;
                    Token::Start(name(start.name())?)
                }
                Event::End(_) => Token::End,
                Event::Text(text) => Token::Text(utf8(&text)?),
                Event::CData(text) => Token::Text(utf8(&text)?),
                Event::GeneralRef(reference) => {
                    let named = reference.resolve_char_ref().map_err(|_| Malformed)?;
                    let text = match named {
                        Some(character) => character.to_string(),
                        None => resolve_xml_entity(&utf8(&reference)?)
                            .ok_or(Malformed)?
                            .to_owned(),
                    };
                    Token::Text(text)
                }
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => continue,
                Event::DocType(_) => return Err(Malformed),
                Event::Eof => Token::Eof,
            };
            return Ok(token);
        }
    }
}

fn name(name: QName<'_>) -> Result<String, Malformed> {
    utf8(name.as_ref())
}

fn utf8(bytes: &[u8]) -> Result<String, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed)?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `<r><a>text</a>…</r>`: the texts of `a`.
    fn texts(document: &str) -> Result<Vec<String>, Malformed> {
        let mut texts = Vec::new();
        Reader::document(document.as_bytes(), "r", |reader, name| match name {
            "a" => {
                texts.push(reader.text()?);
                Ok(())
            }
            _ => reader.skip(),
        })?;
        Ok(texts)
    }

    #[test]
    fn documents() {
        let check = |document: &str, expected: &[&str]| {
            let expected: Vec<String> = expected.iter().map(|&text| text.to_owned()).collect();
            assert_eq!(texts(document).as_ref(), Ok(&expected), "{document}");
        };
        check(
            "<?xml version=\"1.0\"?>\n<r>\n <a>x</a> <a/>\n</r>\n",
            &["x", ""],
        );
        check(
            "<r xmlns='n'><b><a>no</a><c/></b><a>1 &amp; &#50; &#x33;</a></r>",
            &["1 & 2 3"],
        );
        check("<r><!-- c --><a>x<!-- c -->y</a></r>", &["xy"]);
        check("<r><a><![CDATA[<&>]]></a></r>", &["<&>"]);
        check("<r/>", &[]);
    }

    #[test]
    fn malformed_documents() {
        for document in [
            "",
            "text",
            "<",
            "<r",
            "<r>",
            "<r><a>x</r>",
            "<r></s>",
            "<s></s>",
            "<r/><r/>",
            "<r/>text",
            "<r><a><b/></a></r>",
            "<r><a>&unknown;</a></r>",
            "<r><a>&#0;</a></r>",
            "<!DOCTYPE r><r/>",
            "{}",
        ] {
            assert_eq!(texts(document), Err(Malformed), "{document}");
        }
    }
}
