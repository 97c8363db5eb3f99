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
        let short = &plain[..plain.len().min(LONGEST - MARK - 1)];
        let marked = |again: u32| match again {
            0 => format!("{short}_{}", &digest(&[server, tool])[..MARK]),
            // A server can choose its names so that the marks of two are the same.
            again => {
                let mark = digest(&[server, tool, &again.to_string()]);
                format!("{short}_{}", &mark[..MARK])
            }
        };
        // Ends: no more are taken than there are pairs.
        let mut free = (0..).map(marked).filter(|name| taken.insert(name.clone()));
        free.next().unwrap_or_default()
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
    fn a_name_that_looks_like_a_marked_one_takes_nobody_elses() {
        let marked = format!("l_g_{}", &digest(&["git", "l g"])[..MARK]);
        let pairs = [
            ("git", "l_g"),
            ("git", marked.as_str()),
            ("git", "l g"),
            ("git", "l g"),
        ];
        let names = names(pairs);
        assert_eq!(names[1], format!("git__{marked}"));
        let different: HashSet<&String> = names.iter().collect();
        assert_eq!(different.len(), pairs.len(), "{names:?}");
    }

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
