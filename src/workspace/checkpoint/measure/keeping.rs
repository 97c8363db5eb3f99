//! What is kept with the thread, so that a turn can be taken back: the bytes from before, and the manifest.

use std::path::PathBuf;

use super::{Found, Measure};
use crate::{
    conversation::By,
    workspace::checkpoint::{
        before::Before,
        manifest::{Entry, Manifest, State},
    },
};

impl Measure<'_> {
    /// Keeps the bytes from before with the thread, as far as there is room.
    pub(super) fn keep(&mut self, state: &mut State, bytes: Option<&[u8]>) {
        let (State::File { content, .. } | State::Link { content }) = state else {
            return;
        };
        let Some(folder) = &self.turn.folder else {
            return;
        };
        let (Some(id), Some(bytes)) = (content.as_ref(), bytes) else {
            return;
        };
        let own = self.before.and_then(Before::contents);
        let linked = own.is_some_and(|own| folder.contents.take(own, id).is_ok());
        if linked {
            return;
        }
        match self.room_to_keep.checked_sub(bytes.len()) {
            Some(left) if folder.contents.put(bytes).is_ok() => self.room_to_keep = left,
            _ => *content = None,
        }
    }

    pub(super) fn keep_manifest(&mut self, found: &[Found]) {
        let (Some(folder), Some(keeping)) = (&self.turn.folder, &self.turn.keeping) else {
            return;
        };
        let kept = found
            .iter()
            .filter(|found| found.entry.by != Some(By::Other));
        let (entries, unnamed): (Vec<Entry>, Vec<Entry>) = kept
            .map(|found| found.entry.clone())
            .partition(|entry| entry.path.to_str().is_some());
        if !unnamed.is_empty() {
            let count = unnamed.len();
            self.because(format!(
                "{count} of the changes cannot be undone, since the names of the files are not UTF-8"
            ));
        }
        let manifest = Manifest {
            entries,
            made: self.made(),
            partial: self.partial(),
            ..Manifest::new(self.workspace.cwd())
        };
        if let Err(error) = folder.write(keeping.turn, &manifest) {
            self.because(format!(
                "what is needed to undo this turn could not be kept: {error}"
            ));
        }
    }

    /// Directories that came with the turn and are still there.
    fn made(&self) -> Vec<PathBuf> {
        let mut made = self.deeds.made.clone();
        let earlier = self.turn.earlier.as_ref();
        made.extend(
            earlier
                .into_iter()
                .flat_map(|manifest| manifest.made.clone()),
        );
        if let (Some(before), Some(after)) = (self.before, &self.after) {
            let (before, after) = (&before.scan.files, after.files.directories());
            let new = after.filter(|(directory, _)| !before.has_directory(directory));
            made.extend(new.map(|(directory, _)| directory.clone()));
        }
        made.retain(|path| path.is_dir() && path.to_str().is_some());
        made.into_iter().collect()
    }
}
