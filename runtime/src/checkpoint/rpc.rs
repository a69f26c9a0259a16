//! The messages of criu's RPC that are used here, by the field numbers of its `images/rpc.proto` (criu.org/RPC).
//!
//! Every message is one datagram on a SOCK_SEQPACKET socket. Fields that nobody here sets or reads are left out: protobuf
//! skips what it does not know.

/// A request.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    #[prost(enumeration = "Kind", required, tag = "1")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) options: Option<Options>,
    /// In an answer to [`Kind::Notify`]: whether criu may go on.
    #[prost(bool, optional, tag = "3")]
    pub(super) notify_success: Option<bool>,
    #[prost(message, optional, tag = "5")]
    pub(super) features: Option<Features>,
}

/// An answer, or a question of criu's ([`Kind::Notify`]).
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Response {
    #[prost(enumeration = "Kind", required, tag = "1")]
    pub(super) kind: i32,
    #[prost(bool, required, tag = "2")]
    pub(super) success: bool,
    #[prost(message, optional, tag = "5")]
    pub(super) notify: Option<Notify>,
    #[prost(message, optional, tag = "8")]
    pub(super) features: Option<Features>,
    /// The first error that criu wrote to its log.
    #[prost(string, optional, tag = "9")]
    pub(super) error: Option<String>,
}

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Kind {
    Empty = 0,
    Dump = 1,
    Restore = 2,
    PreDump = 4,
    Notify = 6,
    FeatureCheck = 9,
}

/// A point of a dump or restore at which criu waits for its caller.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Notify {
    #[prost(string, optional, tag = "1")]
    pub(super) script: Option<String>,
    /// The restored init, in criu's pid namespace.
    #[prost(int32, optional, tag = "2")]
    pub(super) pid: Option<i32>,
}

/// What criu and the kernel can do together.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Features {
    #[prost(bool, optional, tag = "1")]
    pub(super) memory_tracking: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    pub(super) lazy_pages: Option<bool>,
}

/// What is to be done and how. Descriptors are numbers in the caller's table, but for those of `inherit`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Options {
    #[prost(int32, required, tag = "1")]
    pub(super) images_dir: i32,
    #[prost(int32, optional, tag = "2")]
    pub(super) pid: Option<i32>,
    #[prost(bool, optional, tag = "3")]
    pub(super) leave_running: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub(super) ext_unix_sockets: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    pub(super) tcp_established: Option<bool>,
    #[prost(bool, optional, tag = "6")]
    pub(super) evasive_devices: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    pub(super) shell_job: Option<bool>,
    #[prost(bool, optional, tag = "8")]
    pub(super) file_locks: Option<bool>,
    #[prost(int32, optional, tag = "9")]
    pub(super) log_level: Option<i32>,
    #[prost(string, optional, tag = "10")]
    pub(super) log_file: Option<String>,
    #[prost(message, optional, tag = "11")]
    pub(super) page_server: Option<PageServer>,
    #[prost(bool, optional, tag = "12")]
    pub(super) notify_scripts: Option<bool>,
    #[prost(string, optional, tag = "13")]
    pub(super) root: Option<String>,
    #[prost(string, optional, tag = "14")]
    pub(super) parent_images: Option<String>,
    #[prost(bool, optional, tag = "15")]
    pub(super) track_memory: Option<bool>,
    #[prost(bool, optional, tag = "16")]
    pub(super) auto_dedup: Option<bool>,
    #[prost(int32, optional, tag = "17")]
    pub(super) work_dir: Option<i32>,
    #[prost(bool, optional, tag = "18")]
    pub(super) link_remap: Option<bool>,
    #[prost(message, repeated, tag = "23")]
    pub(super) external_mounts: Vec<Pair>,
    #[prost(bool, optional, tag = "24")]
    pub(super) manage_cgroups: Option<bool>,
    #[prost(message, repeated, tag = "25")]
    pub(super) cgroup_roots: Vec<CgroupRoot>,
    #[prost(bool, optional, tag = "26")]
    pub(super) restore_sibling: Option<bool>,
    #[prost(message, repeated, tag = "27")]
    pub(super) inherit: Vec<Inherit>,
    #[prost(int32, optional, tag = "34")]
    pub(super) cgroups_mode: Option<i32>,
    #[prost(string, repeated, tag = "37")]
    pub(super) external: Vec<String>,
    #[prost(uint32, optional, tag = "38")]
    pub(super) empty_namespaces: Option<u32>,
    #[prost(message, repeated, tag = "39")]
    pub(super) join_namespaces: Vec<JoinNamespace>,
    #[prost(string, optional, tag = "44")]
    pub(super) freeze_cgroup: Option<String>,
    #[prost(bool, optional, tag = "46")]
    pub(super) tcp_skip_in_flight: Option<bool>,
    #[prost(bool, optional, tag = "48")]
    pub(super) lazy_pages: Option<bool>,
    #[prost(bool, optional, tag = "50")]
    pub(super) orphan_pts_master: Option<bool>,
    #[prost(string, optional, tag = "51")]
    pub(super) config_file: Option<String>,
    #[prost(string, optional, tag = "53")]
    pub(super) lsm_profile: Option<String>,
    #[prost(string, optional, tag = "63")]
    pub(super) lsm_mount_context: Option<String>,
}

/// Who takes the pages of a dump.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PageServer {
    #[prost(string, optional, tag = "1")]
    pub(super) address: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub(super) port: Option<i32>,
}

/// A mount from outside: in a dump its place and its name, in a restore its name and its source.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Pair {
    #[prost(string, required, tag = "1")]
    pub(super) key: String,
    #[prost(string, required, tag = "2")]
    pub(super) value: String,
}

/// Where a controller's cgroups are restored.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CgroupRoot {
    #[prost(string, optional, tag = "1")]
    pub(super) controller: Option<String>,
    #[prost(string, required, tag = "2")]
    pub(super) path: String,
}

/// A descriptor of criu's own table that takes the place of what a dump calls `key`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Inherit {
    #[prost(string, required, tag = "1")]
    pub(super) key: String,
    #[prost(int32, required, tag = "2")]
    pub(super) descriptor: i32,
}

/// A namespace that restored processes join.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct JoinNamespace {
    #[prost(string, required, tag = "1")]
    pub(super) kind: String,
    #[prost(string, required, tag = "2")]
    pub(super) path: String,
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    /// The bytes that criu's own schema gives for the same message.
    #[test]
    fn a_request_has_the_wire_format_of_criu() {
        let options = Options {
            images_dir: 5,
            pid: Some(7),
            cgroups_mode: Some(3),
            external_mounts: vec![Pair { key: "/a".into(), value: "b".into() }],
            lsm_mount_context: Some("x".into()),
            ..Options::default()
        };
        let request =
            Request { kind: Kind::Dump.into(), options: Some(options), notify_success: None, features: None };
        #[rustfmt::skip]
        let expected = [
            8, 1, // type
            18, 21, 8, 5, 16, 7, // opts: images_dir_fd, pid
            0xba, 1, 7, 10, 2, b'/', b'a', 18, 1, b'b', // ext_mnt
            0x90, 2, 3, // manage_cgroups_mode
            0xfa, 3, 1, b'x', // lsm_mount_context
        ];
        let encoded = request.encode_to_vec();
        assert_eq!(encoded[..3], expected[..3]);
        assert_eq!(encoded[4..], expected[4..]);
        assert_eq!(usize::from(encoded[3]), expected.len() - 4);
    }

    #[test]
    fn unknown_fields_of_an_answer_are_passed_over() {
        // type = DUMP, success, a field 99, cr_errmsg.
        let bytes = [8, 1, 16, 0, 0x98, 6, 1, 74, 2, b'n', b'o'];
        let response = Response::decode(&bytes[..]).unwrap();
        assert_eq!((response.success, response.error.as_deref()), (false, Some("no")));
    }
}
