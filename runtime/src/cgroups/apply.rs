//! Writing settings, and putting the old values back.

use cleat_sys::cgroup::{Cgroup, CgroupError};

use super::{ResourceError, Setting};

/// Writes settings in their order.
pub(super) fn apply(cgroup: &Cgroup, settings: &[Setting]) -> Result<(), ResourceError> {
    settings.iter().try_for_each(|setting| write(cgroup, setting)).map_err(ResourceError::Cgroup)
}

/// Writes settings in an order the kernel accepts; when one fails, those before it get their old values back.
/// Gives what puts them back later.
pub(super) fn replace(cgroup: &Cgroup, mut settings: Vec<Setting>) -> Result<Vec<Setting>, ResourceError> {
    let mut old = Vec::with_capacity(settings.len());
    for setting in &settings {
        let text = cgroup.read(setting.controller, &setting.file).map_err(ResourceError::Cgroup)?;
        old.push(Setting { value: restorable(text.trim(), &setting.value), ..setting.clone() });
    }
    order_memory(&mut settings, &mut old);
    for (index, setting) in settings.iter().enumerate() {
        if let Err(first) = write(cgroup, setting) {
            return Err(restore(cgroup, &old[..index], first));
        }
    }
    Ok(old)
}

/// Puts back what [`replace`] gave, all of it: something after it has failed.
pub(super) fn put_back(cgroup: &Cgroup, old: &[Setting]) -> Result<(), ResourceError> {
    old.iter().rev().try_for_each(|setting| write(cgroup, setting)).map_err(ResourceError::Cgroup)
}

fn write(cgroup: &Cgroup, setting: &Setting) -> Result<(), CgroupError> {
    cgroup.write(setting.controller, &setting.file, &setting.value)
}

/// Undoes in reverse order; the failure to tell is the first one, unless undoing fails too.
fn restore(cgroup: &Cgroup, old: &[Setting], first: CgroupError) -> ResourceError {
    for setting in old.iter().rev() {
        if let Err(source) = write(cgroup, setting) {
            return ResourceError::Restore { file: setting.file.clone(), first: first.into(), source };
        }
    }
    ResourceError::Cgroup(first)
}

/// v1 keeps `memory.limit_in_bytes` below `memory.memsw.limit_in_bytes` at every moment: to grow, the sum goes first.
fn order_memory(settings: &mut [Setting], old: &mut [Setting]) {
    let position = |file: &str| settings.iter().position(|setting| setting.file == file);
    let (Some(limit), Some(sum)) =
        (position("memory.limit_in_bytes"), position("memory.memsw.limit_in_bytes"))
    else {
        return;
    };
    if amount(&settings[limit].value) > amount(&old[sum].value) && limit < sum {
        settings.swap(limit, sum);
        old.swap(limit, sum);
    }
}

/// A limit in bytes; -1 and what is no number stand for none.
fn amount(value: &str) -> u64 {
    value.parse().unwrap_or(u64::MAX)
}

/// What a file shows as what it accepts, to undo the writing of `new`: a single line is written back as it is, an empty one
/// (cpuset on v2) as a line's end, because nothing at all is no write; of `default 100` the last word; of limits by device
/// the line of the same device.
fn restorable(text: &str, new: &str) -> String {
    if let Some((device, limits)) = new.split_once(' ').filter(|(device, _)| device.contains(':')) {
        return restorable_device(text, device, limits);
    }
    let first = text.lines().next().unwrap_or_default();
    let first = if first.is_empty() { "\n" } else { first };
    first.strip_prefix("default ").unwrap_or(first).to_owned()
}

/// A device without a limit has no line: v2 takes `rbps=max` to mean none, v1 takes 0.
fn restorable_device(text: &str, device: &str, limits: &str) -> String {
    let is_its = |line: &&str| line.split(' ').next() == Some(device);
    let none = || match limits.split_once('=') {
        Some((key, _)) => format!("{device} {key}=max"),
        None => format!("{device} 0"),
    };
    text.lines().find(is_its).map_or_else(none, str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(file: &str, value: &str) -> Setting {
        Setting { controller: "memory", file: file.into(), value: value.into() }
    }

    #[test]
    fn a_growing_limit_raises_the_sum_first() {
        let mut new =
            [setting("memory.limit_in_bytes", "300"), setting("memory.memsw.limit_in_bytes", "600")];
        let mut old =
            [setting("memory.limit_in_bytes", "100"), setting("memory.memsw.limit_in_bytes", "200")];
        order_memory(&mut new, &mut old);
        assert_eq!(new[0].file, "memory.memsw.limit_in_bytes");
        assert_eq!(old[0].value, "200");
    }

    #[test]
    fn a_shrinking_limit_goes_first() {
        let mut new = [setting("memory.limit_in_bytes", "50"), setting("memory.memsw.limit_in_bytes", "60")];
        let mut old = [setting("memory.limit_in_bytes", "100"), setting("memory.memsw.limit_in_bytes", "-1")];
        order_memory(&mut new, &mut old);
        assert_eq!(new[0].file, "memory.limit_in_bytes");
    }

    #[test]
    fn what_a_file_shows_is_put_back_as_it_accepts_it() {
        for (text, new, expected) in [
            ("default 100\n8:0 50", "200", "100"),
            ("max 100000", "20000 100000", "max 100000"),
            ("", "0-1", "\n"),
            ("8:0 rbps=1 wbps=max\n8:16 rbps=2 wbps=max", "8:16 rbps=9", "8:16 rbps=2 wbps=max"),
            ("", "8:16 wiops=9", "8:16 wiops=max"),
            ("8:0 5", "8:16 9", "8:16 0"),
        ] {
            assert_eq!(restorable(text, new), expected, "{text:?}");
        }
    }
}
