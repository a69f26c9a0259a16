//! The image's /etc/passwd and /etc/group: hostile text, of which only well-formed lines count.
//!
//! A line with a number that does not fit is no line: had it counted with any other number, an image could make a user
//! root by writing one too large.

/// A user of /etc/passwd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PasswdEntry<'a> {
    pub(super) name: &'a str,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: &'a str,
}

/// A group of /etc/group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupEntry<'a> {
    pub(super) name: &'a str,
    pub(super) gid: u32,
    members: &'a str,
}

impl GroupEntry<'_> {
    /// Whether the user of this name is listed as a member.
    pub(super) fn has_member(&self, user: &str) -> bool {
        self.members.split(',').any(|member| member == user)
    }
}

/// The well-formed lines of a passwd file, in order.
pub(super) fn users(text: &[u8]) -> impl Iterator<Item = PasswdEntry<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let uid = number(fields.next()?)?;
        let gid = number(fields.next()?)?;
        let (_comment, home) = (fields.next()?, fields.next()?);
        (!name.is_empty()).then_some(PasswdEntry { name, uid, gid, home })
    })
}

/// The well-formed lines of a group file, in order.
pub(super) fn groups(text: &[u8]) -> impl Iterator<Item = GroupEntry<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let gid = number(fields.next()?)?;
        let members = fields.next()?.trim_end();
        (!name.is_empty()).then_some(GroupEntry { name, gid, members })
    })
}

/// A user or group number: decimal digits and nothing else, below the one that means "no change" to the kernel.
pub(super) fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&value| digits && value != u32::MAX)
}

fn lines(text: &[u8]) -> impl Iterator<Item = &str> {
    text.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_users_count() {
        let text = b"root:x:0:0:root:/root:/bin/sh\n\
            # comment\n\
            short:x:1:1\n\
            :x:2:2::/:/\n\
            big:x:4294967296:0::/:/\n\
            minus:x:-1:0::/:/\n\
            plus:x:+1:0::/:/\n\
            none:x:4294967295:0::/:/\n\
            \xff\xfe:x:3:3::/:/\n\
            noshell:x:5:6::/home\n";
        let names: Vec<_> = users(text).map(|user| (user.name, user.uid, user.gid, user.home)).collect();
        assert_eq!(names, [("root", 0, 0, "/root"), ("noshell", 5, 6, "/home")]);
    }

    #[test]
    fn only_well_formed_groups_count() {
        let text = b"wheel:x:10:root,adm\nempty:x:11:\nshort:x:12\nbig:x:99999999999:root\nlast:x:13:adm";
        let found: Vec<_> = groups(text).map(|group| (group.gid, group.has_member("adm"))).collect();
        assert_eq!(found, [(10, true), (11, false), (13, true)]);
        assert!(!groups(b"a:x:1:xadm").any(|group| group.has_member("adm")));
        assert!(!groups(b"a:x:1:").any(|group| group.has_member("adm")));
    }

    #[test]
    fn a_number_is_digits_that_fit() {
        for (text, expected) in [
            ("0", Some(0)),
            ("0000", Some(0)),
            ("4294967294", Some(u32::MAX - 1)),
            ("4294967295", None),
            ("4294967296", None),
            ("-1", None),
            ("+1", None),
            (" 1", None),
            ("", None),
            ("1e3", None),
        ] {
            assert_eq!(number(text), expected, "{text:?}");
        }
    }
}
