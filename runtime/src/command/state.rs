//! `state`.

use super::arguments::{Arguments, Global};
use super::store::Folder;
use super::{CommandError, list};

/// `state`.
pub(super) fn command(arguments: &mut Arguments, global: &Global) -> Result<(), CommandError> {
    let id = arguments.only_id()?;
    let folder = Folder::open(&global.root, &id)?;
    let record = folder.read()?;
    list::print_json(&record.state(folder.status(&record)))
}
