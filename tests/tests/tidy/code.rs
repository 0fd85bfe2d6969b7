//! Reads Rust as far as the rules need it: separates code from comments and texts, and finds which
//! names begin a path.

/// Returns the code of a Rust file: comments and the insides of texts become spaces, lines stay.
pub fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_comment(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment(&chars, at),
            '"' => quoted(&chars, at),
            'r' if raw_text(&chars, at).is_some() => raw_text(&chars, at).unwrap_or(at),
            '\'' => character(&chars, at),
            _code => {
                code.push(chars[at]);
                at += 1;
                continue;
            }
        };
        let blank = |c: &char| if *c == '\n' { '\n' } else { ' ' };
        code.extend(chars[at..end].iter().map(blank));
        at = end;
    }
    code
}

fn line_comment(chars: &[char], at: usize) -> usize {
    let length = chars[at..].iter().position(|c| *c == '\n');
    length.map_or(chars.len(), |length| at + length)
}

fn block_comment(chars: &[char], at: usize) -> usize {
    let (mut depth, mut at) = (0, at);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => depth += 1,
            ('*', Some('/')) => depth -= 1,
            _inside => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            break;
        }
    }
    at.min(chars.len())
}

fn quoted(chars: &[char], at: usize) -> usize {
    let mut at = at + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// Returns the end of an `r"…"` or `r#"…"#` that begins at `at`, if one does.
fn raw_text(chars: &[char], at: usize) -> Option<usize> {
    let before = at.checked_sub(1).map(|before| chars[before]);
    if before.is_some_and(|c| is_word(c) && c != 'b' && c != 'c') {
        return None;
    }
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let start = at + 1 + hashes;
    if chars.get(start) != Some(&'"') {
        return None;
    }
    let ends = |end: &usize| {
        chars[*end] == '"' && chars[end + 1..].iter().take_while(|c| **c == '#').count() >= hashes
    };
    let end = (start + 1..chars.len()).find(ends)?;
    Some(end + 1 + hashes)
}

/// Returns the end of `'x'` or `'\n'`; a lifetime's tick ends after itself.
fn character(chars: &[char], at: usize) -> usize {
    if chars.get(at + 1) == Some(&'\\') {
        let close = chars[(at + 3).min(chars.len())..]
            .iter()
            .position(|c| *c == '\'');
        return close.map_or(at + 1, |close| at + 4 + close);
    }
    if chars.get(at + 2) == Some(&'\'') {
        return at + 3;
    }
    at + 1
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

struct Token<'a> {
    line: usize,
    text: &'a str,
}

fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            found.push(Token {
                line: index + 1,
                text: &rest[..length],
            });
            rest = rest[length..].trim_start();
        }
    }
    found
}

/// Returns every name that begins a path, with its line: `a` of `a::b`, `::a::b`, `use a;` and of
/// `use {a, b::c};`. It may be a crate, a module or a type.
pub fn path_starts(code: &str) -> Vec<(usize, &str)> {
    let tokens = tokens(code);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let before = |at: usize, steps: usize| at.checked_sub(steps).map_or("", text);
    let named = |at: usize| text(at).starts_with(is_word);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let imports = text(at) == "use" && text(at + 1) != "<";
        if imports || (text(at) == "extern" && text(at + 1) == "crate") {
            let from = at + if imports { 1 } else { 2 };
            let end = (from..tokens.len()).find(|end| text(*end) == ";");
            let end = end.unwrap_or(tokens.len());
            import_starts(&tokens[from..end], &mut found);
            at = end;
            continue;
        }
        let absolute =
            before(at, 1) == "::" && !before(at, 2).ends_with(|c| is_word(c) || c == '>');
        if named(at)
            && text(at + 1) == "::"
            && (absolute || !["::", ".", "$"].contains(&before(at, 1)))
        {
            found.push((tokens[at].line, tokens[at].text));
        }
        at += 1;
    }
    found
}

/// Returns the starts of the paths of one `use`: the first name of each branch at its root.
fn import_starts<'a>(tree: &[Token<'a>], found: &mut Vec<(usize, &'a str)>) {
    let mut started = false;
    let mut closing = 0_usize;
    for token in tree {
        match token.text {
            // Below a name: what comes here doesn't begin a path.
            "{" if started || closing > 0 => closing += 1,
            "}" if closing > 0 => closing -= 1,
            "{" | "}" | "::" => {}
            "," if closing == 0 => started = false,
            name if !started && closing == 0 => {
                found.push((token.line, name));
                started = true;
            }
            _rest => {}
        }
    }
}

/// Returns a source without its inline tests, which come last in their file.
pub fn without_tests(code: &str) -> &str {
    let end = code.find("#[cfg(test)]\nmod tests {");
    &code[..end.unwrap_or(code.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(code: &str) -> Vec<&str> {
        let code = Box::leak(code_of(code).into_boxed_str());
        path_starts(code)
            .into_iter()
            .map(|(_, name)| name)
            .collect()
    }

    #[test]
    fn comments_and_texts_are_no_code() {
        let text = "a /* b /* c */ */ \"d \\\" e\" r#\"f \" g\"# 'h' '\\n' &'i j // k\nl";
        let words: Vec<_> = code_of(text)
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        assert_eq!(words, ["a", "&", "i", "j", "l"]);
        assert_eq!(code_of("\"a\nb\"\nc").lines().count(), 3);
    }

    #[test]
    fn a_crate_is_found_however_it_is_named() {
        for code in [
            "use raft;",
            "use raft::Config;",
            "pub use ::raft::{Config, eraftpb::Entry};",
            "use {std::io, raft::Config};",
            "use std::io;\nuse {\n    raft as consensus,\n};",
            "extern crate raft;",
            "fn f(x: raft::Config) {}",
            "let x = Vec::<::raft::Config>::new();",
            "impl From<::raft::Error> for Mine {}",
        ] {
            assert!(starts(code).contains(&"raft"), "{code}");
        }
    }

    #[test]
    fn a_module_of_the_same_name_is_no_crate() {
        for code in [
            "use crate::raft::Config;",
            "use super::{raft::Config, raft};",
            "use a::{b::{c, raft}, raft};",
            "fn f(x: crate::raft::Config) {}",
            "x.raft::<u8>()",
            "// raft::Config",
            "let text = \"raft::Config\";",
            "fn f<'a>() -> impl Sized + use<'a> {}",
        ] {
            assert!(!starts(code).contains(&"raft"), "{code}");
        }
    }
}
