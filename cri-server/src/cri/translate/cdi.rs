//! Devices by name: the request's list of them, and the annotations of clients from before there was one.

use std::collections::{BTreeMap, HashSet};

use cleat_cri_api::v1::CdiDevice;

use super::field::refused;
use crate::engine::Result;
use crate::engine::model::CdiName;

/// Annotations whose values are names, with commas between them (the CDI specification's Go package, `annotations`).
const ANNOTATIONS: &str = "cdi.k8s.io/";

/// Both, each name once: clients say the same in both ways.
pub(super) fn devices(
    listed: Vec<CdiDevice>,
    annotations: &BTreeMap<String, String>,
) -> Result<Vec<CdiName>> {
    let listed = listed.into_iter().map(|device| ("config.CDI_devices".to_owned(), device.name));
    let annotated =
        annotations.iter().filter(|(key, _)| key.starts_with(ANNOTATIONS)).flat_map(|(key, names)| {
            names.split(',').map(move |name| (format!("config.annotations[{key}]"), name.to_owned()))
        });
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for (field, name) in listed.chain(annotated) {
        let parsed = CdiName::try_from(name.clone());
        let parsed = parsed.map_err(|_| refused(&field, name, "a name vendor/class=device is expected"))?;
        if seen.insert(parsed.clone()) {
            all.push(parsed);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(listed: &[&str], annotations: &[(&str, &str)]) -> Result<Vec<String>> {
        let listed = listed.iter().map(|name| CdiDevice { name: (*name).to_owned() }).collect();
        let annotations =
            annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Ok(devices(listed, &annotations)?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn lists_and_annotations_are_one() {
        assert_eq!(names(&[], &[("other", "v.com/c=x")]).unwrap(), Vec::<String>::new());
        assert_eq!(
            names(
                &["v.com/c=b", "v.com/c=a"],
                &[("cdi.k8s.io/plugin_1", "v.com/c=a,v.com/c=c"), ("cdi.k8s.io/a", "v.com/c=d")]
            )
            .unwrap(),
            ["v.com/c=b", "v.com/c=a", "v.com/c=d", "v.com/c=c"]
        );
    }

    #[test]
    fn what_is_no_name_is_refused_with_its_field() {
        let refused = |listed: &[&str], annotations: &[(&str, &str)]| {
            names(listed, annotations).unwrap_err().to_string()
        };
        assert!(refused(&["/dev/null"], &[]).starts_with("config.CDI_devices \"/dev/null\""));
        assert!(
            refused(&[], &[("cdi.k8s.io/x", "v.com/c=a,")])
                .starts_with("config.annotations[cdi.k8s.io/x] \"\"")
        );
    }
}
