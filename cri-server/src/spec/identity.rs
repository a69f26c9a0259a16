//! Who the program runs as: a number is never taken for a name, and a name that nobody has is an error, not root.

use std::collections::BTreeSet;

use super::passwd::{self, PasswdEntry};
use crate::engine::model::{GroupsPolicy, Identity, UserChoice};

/// The longest user or group name that is looked up, bytes (`LOGIN_NAME_MAX` is 256).
const NAME_MAX: usize = 256;

/// A user or group that cannot be determined.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    /// A group was asked for, but no user.
    #[error("group {0} was asked for without a user; give both or neither")]
    GroupWithoutUser(u32),
    /// A number that is no user or group number.
    #[error("{0:?} is out of range: user and group numbers go from 0 to 4294967294")]
    OutOfRange(String),
    /// A text that is neither a name nor a number.
    #[error("{0:?} is no user or group name: it is too long or contains ':', ',' or a control character")]
    BadName(String),
    /// Nobody has this name.
    #[error("user {0:?} is not in the image's /etc/passwd")]
    UnknownUser(String),
    /// No group has this name.
    #[error("group {0:?} is not in the image's /etc/group")]
    UnknownGroup(String),
}

/// A user or group as written: by number or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Principal<'a> {
    Number(u32),
    Name(&'a str),
}

/// Decides who a program runs as.
///
/// `choice` is what the client asks for and wins over `image_user`, the image's `User` (`user`, `uid`, `user:group` and
/// every mixture). `passwd` and `group` are the contents of the image's files, absent where the image has none; the
/// caller bounds their size. Unless a group is named, the primary group is that of the user in passwd, else 0.
///
/// # Errors
/// When a name is unknown, a number does not fit, or a group is asked for without a user.
pub(crate) fn identity(
    choice: &UserChoice,
    image_user: &str,
    passwd: Option<&[u8]>,
    group: Option<&[u8]>,
) -> Result<Identity, UserError> {
    let (passwd, group) = (passwd.unwrap_or_default(), group.unwrap_or_default());
    let (wanted_user, wanted_group) = wanted(choice, image_user)?;
    let entry = match wanted_user {
        Principal::Number(uid) => passwd::users(passwd).find(|user| user.uid == uid),
        Principal::Name(name) => passwd::users(passwd).find(|user| user.name == name),
    };
    let uid = match (&wanted_user, &entry) {
        (Principal::Number(uid), _) => *uid,
        (Principal::Name(_), Some(user)) => user.uid,
        (Principal::Name(name), None) => return Err(UserError::UnknownUser((*name).to_owned())),
    };
    let gid = match wanted_group {
        Some(Principal::Number(gid)) => gid,
        Some(Principal::Name(name)) => group_named(group, name)?,
        None => entry.as_ref().map_or(0, |user| user.gid),
    };
    let groups = all_groups(choice, gid, entry.as_ref(), group)?;
    Ok(Identity { uid, gid, groups, home: entry.and_then(|user| usable_home(user.home)) })
}

/// Which user and group are meant, before anything is looked up.
fn wanted<'a>(
    choice: &'a UserChoice,
    image_user: &'a str,
) -> Result<(Principal<'a>, Option<Principal<'a>>), UserError> {
    let checked = |id: u32| if id == u32::MAX { Err(UserError::OutOfRange(id.to_string())) } else { Ok(id) };
    let group = match (choice.gid, choice.group.as_deref().filter(|name| !name.is_empty())) {
        (Some(gid), _) => Some(Principal::Number(checked(gid)?)),
        (None, Some(name)) => Some(principal(name)?),
        (None, None) => None,
    };
    match (choice.uid, choice.name.as_deref().filter(|name| !name.is_empty()), choice.gid) {
        (Some(uid), _, _) => Ok((Principal::Number(checked(uid)?), group)),
        (None, Some(name), _) => Ok((principal(name)?, group)),
        (None, None, Some(gid)) => Err(UserError::GroupWithoutUser(gid)),
        (None, None, None) => from_image(image_user),
    }
}

/// The image's `User`. An image without one means root; an empty group part means that none is named.
fn from_image(image_user: &str) -> Result<(Principal<'_>, Option<Principal<'_>>), UserError> {
    let (user, group) = match image_user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (image_user, None),
    };
    let user = if user.is_empty() { Principal::Number(0) } else { principal(user)? };
    let group = group.filter(|group| !group.is_empty()).map(principal).transpose()?;
    Ok((user, group))
}

/// Digits are a number, whatever names the image has; so is what looks like a signed number, which then does not fit.
fn principal(text: &str) -> Result<Principal<'_>, UserError> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = passwd::number(text).ok_or_else(|| UserError::OutOfRange(text.to_owned()))?;
        return Ok(Principal::Number(number));
    }
    if text.len() > NAME_MAX || text.chars().any(|c| c.is_control() || matches!(c, ':' | ',')) {
        return Err(UserError::BadName(text.to_owned()));
    }
    Ok(Principal::Name(text))
}

/// The primary group, those asked for and, where they count, those the image gives the user.
fn all_groups(
    choice: &UserChoice,
    gid: u32,
    user: Option<&PasswdEntry<'_>>,
    group: &[u8],
) -> Result<Vec<u32>, UserError> {
    let mut all = BTreeSet::from([gid]);
    all.extend(&choice.supplemental_groups);
    for name in &choice.supplemental_names {
        all.insert(group_named(group, name)?);
    }
    if let (GroupsPolicy::Merge, Some(user)) = (choice.groups_policy, user) {
        all.extend(passwd::groups(group).filter(|entry| entry.has_member(user.name)).map(|entry| entry.gid));
    }
    Ok(all.into_iter().collect())
}

/// The number of the group of this name.
fn group_named(group: &[u8], name: &str) -> Result<u32, UserError> {
    let found = passwd::groups(group).find(|entry| entry.name == name);
    found.map(|entry| entry.gid).ok_or_else(|| UserError::UnknownGroup(name.to_owned()))
}

/// A home folder that may be put into an environment: absolute and without control characters.
fn usable_home(home: &str) -> Option<String> {
    (home.starts_with('/') && !home.chars().any(char::is_control)).then(|| home.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n\
        default-user:x:1000:1000::/home/default:/bin/sh\n\
        1002:x:0:0:trap:/root:/bin/sh\n\
        evil:x:4294967296:0::/:/bin/sh\n\
        odd:x:77:78::relative:/bin/sh\n";
    const GROUP: &[u8] = b"root:x:0:\n\
        www-data:x:33:\n\
        group-defined-in-image:x:50000:default-user\n\
        wheel:x:10:root\n\
        1004:x:0:\n";

    fn resolve(choice: &UserChoice, image_user: &str) -> Result<(u32, u32, Vec<u32>), UserError> {
        identity(choice, image_user, Some(PASSWD), Some(GROUP)).map(|who| (who.uid, who.gid, who.groups))
    }

    #[test]
    fn the_image_says_who_where_nobody_asks() {
        for (user, expected) in [
            ("", (0, 0, vec![0, 10])),
            ("root", (0, 0, vec![0, 10])),
            ("www-data", (33, 33, vec![33])),
            ("1002", (1002, 0, vec![0])),
            ("1003:1004", (1003, 1004, vec![1004])),
            ("www-data:1004", (33, 1004, vec![1004])),
            ("33:wheel", (33, 10, vec![10])),
            ("1000", (1000, 1000, vec![1000, 50000])),
            ("1000:", (1000, 1000, vec![1000, 50000])),
            (":10", (0, 10, vec![10])),
            ("0000", (0, 0, vec![0, 10])),
            ("4294967294", (4_294_967_294, 0, vec![0])),
        ] {
            assert_eq!(resolve(&UserChoice::default(), user), Ok(expected), "{user}");
        }
    }

    #[test]
    fn what_does_not_fit_or_exist_is_an_error() {
        let out_of_range = |text: &str| UserError::OutOfRange(text.into());
        for (user, expected) in [
            ("4294967296", out_of_range("4294967296")),
            ("4294967295", out_of_range("4294967295")),
            ("18446744073709551616", out_of_range("18446744073709551616")),
            ("-1", out_of_range("-1")),
            ("+0", out_of_range("+0")),
            ("1000:4294967296", out_of_range("4294967296")),
            ("nobody-here", UserError::UnknownUser("nobody-here".into())),
            ("evil", UserError::UnknownUser("evil".into())),
            ("0x0", UserError::UnknownUser("0x0".into())),
            ("root:nothing", UserError::UnknownGroup("nothing".into())),
            ("a:b:c", UserError::BadName("b:c".into())),
            ("ro\not", UserError::BadName("ro\not".into())),
        ] {
            assert_eq!(resolve(&UserChoice::default(), user), Err(expected), "{user:?}");
        }
    }

    #[test]
    fn the_request_wins_over_the_image() {
        let choice = |uid, gid, name: Option<&str>| UserChoice {
            uid,
            gid,
            name: name.map(str::to_owned),
            ..UserChoice::default()
        };
        for (given, expected) in [
            (choice(Some(5), None, None), Ok((5, 0, vec![0]))),
            (choice(Some(1000), None, None), Ok((1000, 1000, vec![1000, 50000]))),
            (choice(Some(1000), Some(7), None), Ok((1000, 7, vec![7, 50000]))),
            (choice(Some(1000), None, Some("root")), Ok((1000, 1000, vec![1000, 50000]))),
            (choice(None, None, Some("www-data")), Ok((33, 33, vec![33]))),
            (choice(None, Some(8), Some("www-data")), Ok((33, 8, vec![8]))),
            (choice(None, None, Some("1002")), Ok((1002, 0, vec![0]))),
            (choice(None, None, Some("")), Ok((1003, 1004, vec![1004]))),
            (choice(None, Some(8), None), Err(UserError::GroupWithoutUser(8))),
            (choice(Some(u32::MAX), None, None), Err(UserError::OutOfRange("4294967295".into()))),
            (choice(Some(1), Some(u32::MAX), None), Err(UserError::OutOfRange("4294967295".into()))),
        ] {
            assert_eq!(resolve(&given, "1003:1004"), expected, "{given:?}");
        }
    }

    #[test]
    fn supplemental_groups_follow_the_policy() {
        for (policy, expected) in
            [(GroupsPolicy::Merge, vec![1000, 50000, 60000]), (GroupsPolicy::Strict, vec![1000, 60000])]
        {
            let choice = UserChoice {
                supplemental_groups: vec![60000, 1000, 60000],
                groups_policy: policy,
                ..UserChoice::default()
            };
            assert_eq!(resolve(&choice, "1000"), Ok((1000, 1000, expected)), "{policy:?}");
        }
    }

    #[test]
    fn groups_are_found_by_their_names() {
        let choice = |group: &str, more: &[&str]| UserChoice {
            uid: Some(5),
            group: Some(group.to_owned()),
            supplemental_names: more.iter().map(|name| (*name).to_owned()).collect(),
            ..UserChoice::default()
        };
        assert_eq!(resolve(&choice("www-data", &["root"]), ""), Ok((5, 33, vec![0, 33])));
        assert_eq!(resolve(&choice("7", &[]), ""), Ok((5, 7, vec![7])));
        for (group, more) in [("nosuch", &[][..]), ("root", &["nosuch"])] {
            let refused = Err(UserError::UnknownGroup("nosuch".into()));
            assert_eq!(resolve(&choice(group, more), ""), refused, "{group}");
        }
    }

    #[test]
    fn an_image_without_files_knows_numbers_only() {
        let resolve = |user| identity(&UserChoice::default(), user, None, None);
        assert_eq!(resolve("12").map(|who| (who.uid, who.gid, who.home)), Ok((12, 0, None)));
        assert_eq!(resolve("root"), Err(UserError::UnknownUser("root".into())));
        assert_eq!(resolve("").map(|who| who.uid), Ok(0));
    }

    #[test]
    fn a_home_comes_from_passwd_if_it_is_a_path() {
        let home = |user| identity(&UserChoice::default(), user, Some(PASSWD), Some(GROUP)).unwrap().home;
        assert_eq!(home("www-data").as_deref(), Some("/var/www"));
        assert_eq!(home("33").as_deref(), Some("/var/www"));
        assert_eq!(home("odd"), None);
        assert_eq!(home("4711"), None);
    }

    #[test]
    fn digits_are_never_looked_up_as_a_name() {
        for uid in (0..200_000_u32).step_by(997) {
            let passwd = format!("{uid}:x:0:0::/root:/bin/sh\n");
            let who =
                identity(&UserChoice::default(), &uid.to_string(), Some(passwd.as_bytes()), None).unwrap();
            assert_eq!((who.uid, who.gid), (uid, 0));
            assert_eq!(who.home.is_some(), uid == 0);
        }
    }
}
