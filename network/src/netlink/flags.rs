//! Flags of a netlink message (`linux/netlink.h`).

/// `NLM_F_REQUEST`: every message from us.
pub(crate) const REQUEST: u16 = 0x001;
/// `NLM_F_ACK`: answer in any case.
pub(crate) const ACK: u16 = 0x004;
/// `NLM_F_ECHO`: send the requester the announcement too.
pub(crate) const ECHO: u16 = 0x008;
/// `NLM_F_ROOT | NLM_F_MATCH`: answer with all objects, then with `NLMSG_DONE`.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`: fail where it exists.
pub(crate) const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`: make what does not exist.
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`: put it after its like.
pub(crate) const APPEND: u16 = 0x800;
