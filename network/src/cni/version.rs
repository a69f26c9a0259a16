//! The versions of the CNI specification that we speak.

/// A version; later ones compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(clippy::enum_variant_names, reason = "these are their names")]
pub(super) enum Version {
    V0_3_0,
    V0_3_1,
    /// CHECK, and `prevResult` for DEL.
    V0_4_0,
    V1_0_0,
    /// STATUS and GC.
    V1_1_0,
}

impl Version {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let all = [Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
        all.into_iter().find(|version| version.as_str() == text)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Whether plugins of this version know CHECK and take `prevResult` with DEL.
    pub(super) fn has_check(self) -> bool {
        self >= Self::V0_4_0
    }

    /// Whether plugins of this version know STATUS and GC.
    pub(super) fn has_status_and_gc(self) -> bool {
        self >= Self::V1_1_0
    }
}
