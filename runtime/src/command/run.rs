//! `run`: create, start, and unless detached wait for the end.

use std::process::ExitCode;

use cleat_runtime::{Created, Gate};

use super::arguments::{Arguments, Global, one_id, set};
use super::create::{self, Options};
use super::store::Folder;
use super::{CommandError, hooks, log, supervise};

/// `run`.
pub(super) fn command(arguments: &mut Arguments, global: &Global) -> Result<ExitCode, CommandError> {
    let (mut options, mut detach, mut keep) = (Options::default(), false, false);
    let positional = arguments.each(None, |option| match option.name {
        "detach" | "d" => set(&mut detach),
        "keep" => set(&mut keep),
        _ => options.take(option),
    })?;
    let id = one_id(positional)?;
    options.count_inherited()?;
    let configuration = create::configuration(&options)?;
    if configuration.terminal && detach != options.console_socket.is_some() {
        return Err(CommandError::Usage("a terminal needs --console-socket exactly when detached".into()));
    }
    let folder = Folder::create(&global.root, &id)?;
    // Before init can end: from here on its end and our own signals come by descriptor.
    let signals = if detach { None } else { Some(supervise::Signals::block()?) };
    let (created, record) = create::create(&id, configuration, Gate::Caller, &folder, (global, &options))
        .inspect_err(|_| create::remove_folder(global, &folder))?;
    created.notes.iter().for_each(|note| log::note(global, note));
    let handed_over = create::hand_over(&options, &created);
    let Created { pidfd, console, start, target, .. } = created;
    let started = handed_over
        .and_then(|()| Ok(start.release()?.finish()?))
        .and_then(|()| hooks::after_start(&record, || hooks::kill(&target)));
    if let Err(error) = started {
        create::discard(global, &pidfd, &target, &record);
        create::remove_folder(global, &folder);
        hooks::after_end(global, &record);
        return Err(error);
    }
    let Some(signals) = signals else { return Ok(ExitCode::SUCCESS) };
    let code = supervise::until_end(&signals, &pidfd, console.as_ref())?;
    target.kill_all()?;
    if !keep {
        target.remove_cgroup()?;
        record.release()?;
        folder.remove()?;
        hooks::after_end(global, &record);
    }
    Ok(code)
}
