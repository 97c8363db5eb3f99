//! The names that a file refers to, as numbers: enough to see who refers to whom.

/// Distinct names of one file that are kept.
const MOST: usize = 8_192;
/// Shorter names say nothing.
const SHORTEST: usize = 3;

/// The names in `code`, each once, sorted.
pub(super) fn names(code: &[u8]) -> Vec<u32> {
    let mut found: Vec<u32> = Vec::new();
    let mut at = 0;
    while at < code.len() {
        if !begins(code[at]) {
            at += 1;
            continue;
        }
        let from = at;
        let mut hash = OFFSET;
        while at < code.len() && goes_on(code[at]) {
            hash = step(hash, code[at]);
            at += 1;
        }
        // `0x1f` and `1e9` are not names.
        let in_number = from > 0 && code[from - 1].is_ascii_digit();
        if at - from >= SHORTEST && !in_number {
            found.push(hash);
        }
        if found.len() > 8 * MOST {
            tidy(&mut found);
            if found.len() >= MOST {
                break;
            }
        }
    }
    tidy(&mut found);
    found.truncate(MOST);
    found
}

/// The number of a name.
pub(super) fn number(name: &str) -> u32 {
    name.bytes().fold(OFFSET, step)
}

fn tidy(found: &mut Vec<u32>) {
    found.sort_unstable();
    found.dedup();
}

// FNV-1a: a rank may suffer from two names with one number, nothing else does.
const OFFSET: u32 = 0x811c_9dc5;

fn step(hash: u32, byte: u8) -> u32 {
    (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
}

fn begins(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn goes_on(byte: u8) -> bool {
    begins(byte) || byte.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_once_and_numbers_are_none() {
        let mut expected: Vec<u32> = ["alpha", "beta_2", "größe"].map(number).into();
        expected.sort_unstable();
        let found = names("alpha(beta_2, 0xffff, 12345, a, größe) + alpha".as_bytes());
        assert_eq!(found, expected);
    }

    #[test]
    fn a_flood_of_names_is_bounded() {
        let text: String = (0..200_000).map(|n| format!("name{n} ")).collect();
        assert_eq!(names(text.as_bytes()).len(), MOST);
    }
}
