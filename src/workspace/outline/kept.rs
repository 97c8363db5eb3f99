//! What is kept of outlines from call to call: one file a root in the state directory, whole or not at all.
//!
//! It holds no text of the files, only where their definitions are and numbers for names. It is private, is written
//! beside and renamed, and what cannot be read of it is as if it were not there.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    language::Kind,
    reading::Skipped,
    survey::{File, Form, Spot, Stamp},
};
use crate::workspace::checkpoint::{ContentId, private_directory};

/// Another number, another form.
const FORM: &[u8; 8] = b"outline3";
/// Files of other roots that stay beside the newest.
const ROOTS: usize = 16;
/// Bytes of all of them.
const BYTES: u64 = 256 * 1024 * 1024;

/// Where outlines are kept.
pub(super) fn folder(state: &Path) -> PathBuf {
    state.join("outlines")
}

fn place(state: &Path, root: &Path) -> PathBuf {
    let name = ContentId::of(root.as_os_str().as_encoded_bytes()).to_string();
    folder(state).join(name)
}

/// What is kept of `root`; nothing if there is nothing that can be read.
pub(super) fn load(state: &Path, root: &Path) -> Vec<File> {
    let bytes = fs::read(place(state, root)).unwrap_or_default();
    let mut reader = Reader(&bytes);
    reader.all().unwrap_or_default()
}

/// Keeps `files`, and lets go of roots that were not looked at for long.
pub(super) fn keep(state: &Path, root: &Path, files: &[File]) -> io::Result<()> {
    let folder = folder(state);
    private_directory(&folder)?;
    let mut fresh = tempfile::NamedTempFile::new_in(&folder)?;
    fresh.write_all(&written(files))?;
    fresh
        .persist(place(state, root))
        .map_err(|error| error.error)?;
    sweep(&folder)
}

/// Keeps the newest ones, as many as there may be.
fn sweep(folder: &Path) -> io::Result<()> {
    let mut kept: Vec<(SystemTime, u64, PathBuf)> = fs::read_dir(folder)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let about = entry.metadata().ok()?;
            Some((about.modified().ok()?, about.len(), entry.path()))
        })
        .collect();
    kept.sort_by_key(|(modified, ..)| std::cmp::Reverse(*modified));
    let mut bytes = 0;
    for (at, (_, size, path)) in kept.into_iter().enumerate() {
        bytes += size;
        if at > 0 && (at >= ROOTS || bytes > BYTES) {
            // Another process may have been first.
            let _ = fs::remove_file(path);
        }
    }
    Ok(())
}

const KINDS: [Kind; 6] = [
    Kind::Function,
    Kind::Type,
    Kind::Group,
    Kind::Module,
    Kind::Value,
    Kind::Section,
];
const FORMS: [Form; 3] = [Form::Plain, Form::Capital, Form::Parts];
const REASONS: [Skipped; 5] = [
    Skipped::Binary,
    Skipped::Huge,
    Skipped::Minified,
    Skipped::Foreign,
    Skipped::Unreadable,
];

fn written(files: &[File]) -> Vec<u8> {
    let mut out = Vec::with_capacity(files.len() * 512);
    out.extend_from_slice(FORM);
    number(&mut out, files.len());
    for file in files {
        number(&mut out, file.name.len());
        out.extend_from_slice(file.name.as_bytes());
        let Stamp {
            size,
            modified,
            changed,
            inode,
        } = file.stamp;
        for part in [
            size,
            modified.cast_unsigned(),
            changed.cast_unsigned(),
            inode,
        ] {
            out.extend_from_slice(&part.to_le_bytes());
        }
        out.extend_from_slice(&file.digest);
        let reason = file
            .skipped
            .and_then(|why| REASONS.iter().position(|known| *known == why));
        out.push(u8::try_from(reason.map_or(0, |at| at + 1)).unwrap_or(0));
        out.push(u8::from(file.parsed));
        out.extend_from_slice(&file.rank.to_le_bytes());
        out.extend_from_slice(&file.lines.to_le_bytes());
        number(&mut out, file.spots.len());
        for spot in &file.spots {
            let kind = KINDS
                .iter()
                .position(|kind| *kind == spot.kind)
                .unwrap_or(0);
            out.push(u8::try_from(kind).unwrap_or(0));
            out.push(spot.depth);
            let form = FORMS
                .iter()
                .position(|form| *form == spot.form)
                .unwrap_or(0);
            let (member, narrow) = (u8::from(spot.member) << 7, u8::from(spot.narrow) << 6);
            out.push(u8::try_from(form).unwrap_or(0) | member | narrow);
            for part in [spot.line, spot.end, spot.name, spot.score.to_bits()] {
                out.extend_from_slice(&part.to_le_bytes());
            }
        }
        number(&mut out, file.names.len());
        for name in &file.names {
            out.extend_from_slice(&name.to_le_bytes());
        }
    }
    out
}

fn number(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

/// What is left to read. Every step checks that it is there.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn all(&mut self) -> Option<Vec<File>> {
        if self.take(FORM.len())? != FORM {
            return None;
        }
        let count = self.u32()?;
        let files: Option<Vec<File>> = (0..count).map(|_| self.file()).collect();
        files.filter(|_| self.0.is_empty())
    }

    fn file(&mut self) -> Option<File> {
        let length = self.u32()?;
        let name = String::from_utf8(self.take(length as usize)?.to_vec()).ok()?;
        let stamp = Stamp {
            size: self.u64()?,
            modified: self.u64()?.cast_signed(),
            changed: self.u64()?.cast_signed(),
            inode: self.u64()?,
        };
        let digest = self.take(16)?.try_into().ok()?;
        let skipped = match self.byte()? {
            0 => None,
            reason => Some(*REASONS.get(usize::from(reason) - 1)?),
        };
        let parsed = self.byte()? != 0;
        let rank = f32::from_bits(self.u32()?);
        let lines = self.u32()?;
        let spots = self.list(Self::spot)?;
        let names = self.list(Self::u32)?;
        Some(File {
            name,
            stamp,
            digest,
            skipped,
            parsed,
            lines,
            spots,
            names,
            rank,
        })
    }

    fn spot(&mut self) -> Option<Spot> {
        let (kind, depth, said) = (self.byte()?, self.byte()?, self.byte()?);
        Some(Spot {
            kind: *KINDS.get(usize::from(kind))?,
            depth,
            form: *FORMS.get(usize::from(said & 0x3f))?,
            member: said & 0x80 != 0,
            narrow: said & 0x40 != 0,
            line: self.u32()?,
            end: self.u32()?,
            name: self.u32()?,
            score: f32::from_bits(self.u32()?),
        })
    }

    fn list<T>(&mut self, one: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()? as usize;
        // No more than there is: a damaged number must not ask for memory.
        let mut list = Vec::with_capacity(count.min(self.0.len() / 4));
        for _ in 0..count {
            list.push(one(self)?);
        }
        Some(list)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn files() -> Vec<File> {
        let spot = Spot {
            kind: Kind::Value,
            depth: 2,
            line: 7,
            end: 9,
            name: 11,
            form: Form::Parts,
            member: true,
            narrow: false,
            score: 0.5,
        };
        let one = File {
            name: "src/ü.rs".to_owned(),
            digest: [7; 16],
            parsed: true,
            lines: 40,
            spots: vec![spot; 3],
            names: vec![1, 2, 3],
            rank: 0.25,
            ..File::default()
        };
        let other = File {
            name: "logo".to_owned(),
            skipped: Some(Skipped::Unreadable),
            ..File::default()
        };
        vec![one, other]
    }

    #[test]
    fn what_is_kept_comes_back_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let root = Path::new("/w");
        keep(dir.path(), root, &files()).unwrap();
        assert_eq!(load(dir.path(), root), files());
        assert_eq!(load(dir.path(), Path::new("/v")), []);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder(dir.path())), 0o700);
        assert_eq!(mode(&place(dir.path(), root)), 0o600);
    }

    #[test]
    fn what_is_damaged_is_as_if_it_were_not_there() {
        let whole = written(&files());
        assert_eq!(Reader(&whole).all(), Some(files()));
        for cut in 0..whole.len() {
            assert_eq!(Reader(&whole[..cut]).all(), None, "{cut}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] = 0xff;
            // It may read as something else, but it ends.
            let _ = Reader(&damaged).all();
        }
    }

    #[test]
    fn only_so_many_roots_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        for root in 0..40 {
            keep(dir.path(), Path::new(&format!("/{root}")), &[]).unwrap();
        }
        assert_eq!(fs::read_dir(folder(dir.path())).unwrap().count(), ROOTS);
        let last = place(dir.path(), Path::new("/39"));
        assert!(last.exists());
    }
}
