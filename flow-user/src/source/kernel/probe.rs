//! temp
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppBackend {
    Fexit,
    Kprobe,
    Tracepoint,
}
