//! Names that model APIs accept for tools of external servers: `NAME__TOOL`, `^[a-zA-Z0-9_-]{1,64}$`, no two alike.

use std::collections::HashSet;

use super::digest;

/// The longest name that all model APIs take.
const LONGEST: usize = 64;
/// Hexadecimal digits that tell two names apart.
const MARK: usize = 8;

/// A name for each `(server, tool)`, in order. It depends on nothing but the pairs and their order; the first of two
/// that come to the same keeps it.
pub(super) fn names<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let mut taken = HashSet::new();
    let name_of = |(server, tool): (&str, &str)| {
        let plain = format!("{}__{}", plain(server), plain(tool));
        if plain.len() <= LONGEST && taken.insert(plain.clone()) {
            return plain;
        }
        let mark = &digest(&[server, tool])[..MARK];
        let short = &plain[..plain.len().min(LONGEST - MARK - 1)];
        let name = format!("{short}_{mark}");
        taken.insert(name.clone());
        name
    };
    pairs.into_iter().map(name_of).collect()
}

fn plain(text: &str) -> String {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    text.chars()
        .map(|c| if fine(c) { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_model_apis_and_no_two_are_alike() {
        let long = "x".repeat(90);
        let pairs = [
            ("git", "log"),
            ("git", "l.g"),
            ("git", "l g"),
            ("a__b", "c"),
            ("a", "b__c"),
            ("srv", long.as_str()),
            ("日本", "ツール"),
        ];
        let names = names(pairs);
        assert_eq!(names[..2], ["git__log", "git__l_g"]);
        assert_eq!(names[3], "a__b__c");
        let different: HashSet<&String> = names.iter().collect();
        assert_eq!(different.len(), pairs.len(), "{names:?}");
        for name in &names {
            let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            assert!(name.len() <= 64 && name.chars().all(fine), "{name}");
        }
        assert_eq!(names, super::names(pairs));
    }
}
