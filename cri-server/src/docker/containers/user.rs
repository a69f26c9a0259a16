//! Who a program runs as, as Docker writes it.

use crate::engine::model::UserChoice;

/// `user[:group]` and further groups, each a name or a number; a group alone is root's.
pub(super) fn choice(text: &str, groups: &[String]) -> UserChoice {
    let mut choice = UserChoice::default();
    for group in groups {
        match group.parse() {
            Ok(gid) => choice.supplemental_groups.push(gid),
            Err(_) => choice.supplemental_names.push(group.clone()),
        }
    }
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    match (user.parse(), group.is_empty()) {
        (Ok(uid), _) => choice.uid = Some(uid),
        (Err(_), false) if user.is_empty() => choice.uid = Some(0),
        (Err(_), true) if user.is_empty() => {}
        (Err(_), _) => choice.name = Some(user.to_owned()),
    }
    match group.parse() {
        Ok(gid) => choice.gid = Some(gid),
        Err(_) if group.is_empty() => {}
        Err(_) => choice.group = Some(group.to_owned()),
    }
    choice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_names_or_numbers() {
        let told = |text| {
            let UserChoice { uid, name, gid, group, .. } = choice(text, &[]);
            (uid, name, gid, group)
        };
        let text = |text: &str| Some(text.to_owned());
        for (written, expected) in [
            ("", (None, None, None, None)),
            ("1", (Some(1), None, None, None)),
            ("1:2", (Some(1), None, Some(2), None)),
            ("www", (None, text("www"), None, None)),
            ("www:mail", (None, text("www"), None, text("mail"))),
            (":mail", (Some(0), None, None, text("mail"))),
        ] {
            assert_eq!(told(written), expected, "{written:?}");
        }
        let more = choice("", &["3".into(), "mail".into()]);
        assert_eq!((more.supplemental_groups, more.supplemental_names), (vec![3], vec!["mail".to_owned()]));
    }
}
