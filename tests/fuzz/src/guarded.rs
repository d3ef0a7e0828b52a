//! Bytes before a guard page: a read beyond them crashes at once.

use std::{io, num::NonZeroUsize, ptr::NonNull, slice};

use nix::{
    libc::c_void,
    sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap},
};

/// Size of the guard, at least a page on every supported machine.
const GUARD: usize = 64 << 10;

/// Most bytes of an input; the fuzzer tries inputs as long as the longest seed, or 4096 bytes.
const ROOM: usize = 64 << 10;
const LENGTH: NonZeroUsize = NonZeroUsize::new(ROOM + GUARD).expect("not zero");

/// A copy of bytes that ends where readable memory ends.
#[derive(Debug)]
pub struct Guarded {
    start: NonNull<c_void>,
}

impl Guarded {
    /// Memory for one input.
    ///
    /// # Errors
    /// The kernel has none left.
    pub fn new() -> io::Result<Self> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe { mmap_anonymous(None, LENGTH, access, MapFlags::MAP_PRIVATE) }?;
        let guarded = Self { start };
        // SAFETY: the guard is the last part of what was just mapped; nothing lies in it.
        unsafe { mprotect(start.byte_add(ROOM), GUARD, ProtFlags::PROT_NONE) }?;
        Ok(guarded)
    }

    /// The bytes, moved before the guard; the last of them if there are too many.
    pub fn hold(&mut self, bytes: &[u8]) -> &[u8] {
        let bytes = &bytes[bytes.len().saturating_sub(ROOM)..];
        // SAFETY: the first `ROOM` bytes are mapped, readable and writable for as long as `self`
        // lives, zeroed by the kernel, and only this borrow of `self` refers to them.
        let all = unsafe { slice::from_raw_parts_mut(self.start.cast::<u8>().as_ptr(), ROOM) };
        let place = &mut all[ROOM - bytes.len()..];
        place.copy_from_slice(bytes);
        place
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and no borrow outlives `self`.
        let unmapped = unsafe { munmap(self.start, LENGTH.get()) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_end_where_the_guard_begins() {
        let mut guarded = Guarded::new().unwrap();
        let start = guarded.start.as_ptr() as usize;
        let held = guarded.hold(b"abc");
        assert_eq!(held, b"abc");
        assert_eq!(held.as_ptr_range().end as usize, start + ROOM);
        assert_eq!(guarded.hold(&vec![7; ROOM + 1]).len(), ROOM);
    }
}
