//! What readers of TOML and JSON complain of, in words that say nothing of how we are built.

/// The names of our types, and what a person calls them.
const PLAIN: [(&str, &str); 8] = [
    ("f64", "a number"),
    ("u64", "a whole number, 0 or more"),
    ("usize", "a whole number, 0 or more"),
    ("u32", "a whole number, 0 or more"),
    ("a sequence", "a list"),
    ("a boolean", "`true` or `false`"),
    ("path string", "a path"),
    ("string or map", "one of the names that are known here"),
];

/// `message` of a reader with `group` for what holds keys: a table, an object.
pub fn plain(message: &str, group: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    if message.starts_with("UUID parsing failed") || message.contains("expected a formatted UUID") {
        return "it is not an id".to_owned();
    }
    let Some((before, expected)) = message.rsplit_once("expected ") else {
        let missing = message.strip_prefix("missing field ");
        return missing.map_or(message.to_owned(), |field| format!("{field} is missing"));
    };
    let is_group = expected == "a map" || expected.starts_with("struct ");
    let known = PLAIN.iter().find(|(ours, _)| *ours == expected);
    let expected = match known {
        _ if is_group => group,
        Some((_, plain)) => plain,
        None if expected.starts_with("enum ") => "one of the names that are known here",
        None => expected,
    };
    format!("{before}expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_of_our_own_types_is_left() {
        for (message, expect) in [
            (
                "invalid type: string \"x\", expected f64",
                "invalid type: string \"x\", expected a number",
            ),
            (
                "invalid type: string \"x\", expected struct GivenDecision",
                "invalid type: string \"x\", expected an object",
            ),
            (
                "invalid type: integer `5`, expected a sequence",
                "invalid type: integer `5`, expected a list",
            ),
            (
                "UUID parsing failed: invalid length: expected length 32",
                "it is not an id",
            ),
            ("expected a number above 0", "expected a number above 0"),
            ("missing field `prompt`", "`prompt` is missing"),
        ] {
            assert_eq!(plain(message, "an object"), expect);
        }
    }
}
