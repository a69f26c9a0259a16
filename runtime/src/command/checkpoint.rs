//! `checkpoint`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use cleat_runtime::{Checkpoint, CriuOptions, DumpOptions, PageServer};

use super::arguments::{Arguments, Global, Taken, one_id, set};
use super::store::{Folder, Record, Status};
use super::{CommandError, criu, delete};

#[derive(Default)]
struct Options {
    criu: CriuOptions,
    dump: DumpOptions,
    status: Option<i32>,
}

/// `checkpoint`.
pub(super) fn command(arguments: &mut Arguments, global: &Global) -> Result<(), CommandError> {
    let mut options = Options::default();
    let id = one_id(arguments.each(None, |option| options.take(option))?)?;
    criu::complete(&mut options.criu, global);
    // Before any descriptor of our own can get its number.
    let status = options.status.map(adopt).transpose()?;
    let folder = Folder::open(&global.root, &id)?;
    let record = folder.read()?;
    let status_now = folder.status(&record);
    if !matches!(status_now, Status::Running | Status::Paused) {
        return Err(CommandError::Status { id, status: status_now.name(), wanted: "running or paused" });
    }
    if options.dump.parent.as_ref().is_some_and(|parent| parent.is_absolute()) {
        return Err(CommandError::Usage("--parent-path has to be relative to --image-path".into()));
    }
    take(&record, &options, status.as_ref())?;
    if options.dump.leave_running || options.dump.pre_dump {
        return Ok(());
    }
    // criu has killed it.
    delete::remove(global, &folder, &record)
}

fn take(record: &Record, options: &Options, status: Option<&OwnedFd>) -> Result<(), CommandError> {
    let cgroup = record.open_cgroup()?;
    Ok(cleat_runtime::checkpoint(&Checkpoint {
        id: &record.id,
        bundle: &record.bundle,
        pid: record.pid,
        cgroup: &cgroup,
        streams: &record.streams,
        criu: &options.criu,
        dump: &options.dump,
        status: status.map(AsFd::as_fd),
    })?)
}

impl Options {
    fn take(&mut self, mut option: Taken<'_>) -> Result<bool, CommandError> {
        let dump = &mut self.dump;
        match option.name {
            "parent-path" => {
                dump.parent = Some(option.value()?).filter(|path| !path.is_empty()).map(PathBuf::from);
            }
            "page-server" => dump.page_server = Some(page_server(&option.value()?)?),
            "status-fd" => self.status = status_number(&option.value()?)?,
            "leave-running" => return set(&mut dump.leave_running),
            "tcp-skip-in-flight" => return set(&mut dump.tcp_skip_in_flight),
            "link-remap" => return set(&mut dump.link_remap),
            "pre-dump" => return set(&mut dump.pre_dump),
            _ => return criu::take(&mut self.criu, &mut option),
        }
        Ok(true)
    }
}

/// `host:port`, `[::1]:port`.
fn page_server(text: &str) -> Result<PageServer, CommandError> {
    let invalid = || CommandError::Usage(format!("--page-server {text:?} is not ADDRESS:PORT"));
    let (address, port) = text.rsplit_once(':').ok_or_else(invalid)?;
    let bracketed = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let address = bracketed.unwrap_or(address);
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(invalid)?;
    if address.is_empty() || bracketed.is_none() && address.contains(':') {
        return Err(invalid());
    }
    Ok(PageServer { address: address.to_owned(), port })
}

/// runc's default of -1 stands for none.
fn status_number(text: &str) -> Result<Option<i32>, CommandError> {
    match text.parse::<i32>() {
        Ok(-1) => Ok(None),
        Ok(number) if number > 2 => Ok(Some(number)),
        _ => Err(CommandError::Usage(format!("--status-fd {text:?} is no descriptor from 3 on"))),
    }
}

fn adopt(number: i32) -> Result<OwnedFd, CommandError> {
    cleat_sys::descriptors::adopt(number).map_err(|error| CommandError::System("take --status-fd", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_server_has_an_address_and_a_port() {
        for (text, address, port) in
            [("h:1", "h", 1), ("10.0.0.1:65535", "10.0.0.1", 65535), ("[::1]:80", "::1", 80)]
        {
            assert_eq!(page_server(text).unwrap(), PageServer { address: address.into(), port });
        }
        for bad in ["", "h", "h:", ":1", "h:0", "h:65536", "::1:80", "[]:80"] {
            assert!(page_server(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_status_descriptor_is_none_of_the_standard_streams() {
        assert_eq!((status_number("-1").unwrap(), status_number("3").unwrap()), (None, Some(3)));
        for bad in ["2", "-2", "x", ""] {
            assert!(status_number(bad).is_err(), "{bad:?}");
        }
    }
}
