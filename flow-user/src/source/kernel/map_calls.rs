//! Calls that aya does not make: every entry of a hash map with few of them, and an entry taken out
//! with one.

use std::{
    io,
    mem::{self, MaybeUninit},
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{Pod, maps::MapData};
use aya_obj::generated::{bpf_attr, bpf_cmd};

use super::syscall;

/// Most entries asked for at once. A call gives whole buckets.
const BATCH: u32 = 4_096;
/// More than the fullest bucket of any map.
const MOST: u32 = 1 << 22;
/// Kernels return this where a bucket has more entries than were asked for.
const TOO_FEW: i32 = libc::ENOSPC;

/// Entries, and where the next ones begin.
type Entries<K, V> = (Vec<(K, V)>, Option<u32>);

/// Keys of a hash map and their values, from a position on: `most` or fewer, or some more where one
/// bucket has more. With them where the next ones begin, if there may be more. Entries that come and go
/// meanwhile may be missing.
///
/// # Errors
/// The kernel refuses it: before 5.6 it cannot.
pub fn some_entries<K: Pod, V: Pod>(
    map: &MapData,
    position: Option<u32>,
    most: u32,
) -> io::Result<Entries<K, V>> {
    let mut entries = Vec::new();
    let mut size = most.clamp(1, BATCH);
    loop {
        match Batch::new(size).read(map, position, &mut entries) {
            Err(error) if error.raw_os_error() == Some(TOO_FEW) && size < MOST => size *= 4,
            read => return read.map(|next| (entries, next)),
        }
    }
}

/// Every key of a hash map and its value, up to `most`, with the same reservation.
///
/// # Errors
/// The same.
pub fn entries<K: Pod, V: Pod>(map: &MapData, most: usize) -> io::Result<Vec<(K, V)>> {
    let mut all = Vec::new();
    let mut position = None;
    while all.len() < most {
        let (entries, next) = some_entries(map, position, BATCH)?;
        all.extend(entries);
        position = next;
        if position.is_none() {
            break;
        }
    }
    Ok(all)
}

/// The value of a key, which leaves the map with that.
///
/// # Errors
/// The map does not have it (`ENOENT`), or the kernel refuses it: before 5.14 it cannot.
pub fn lookup_and_delete<K: Pod, V: Pod>(map: &MapData, key: &K) -> io::Result<V> {
    let mut value = MaybeUninit::uninit();
    // SAFETY: bpf_attr is a union of plain integers; all-zero is valid for each.
    let mut attr: bpf_attr = unsafe { mem::zeroed() };
    attr.__bindgen_anon_2.map_fd = map.fd().as_fd().as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = &raw const *key as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_mut_ptr() as u64;
    // SAFETY: the attribute's pointers lead to a key, and to room for a value, of the map's sizes;
    // both outlive the call.
    unsafe { syscall::bpf(bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_ELEM, &mut attr) }?;
    // SAFETY: the kernel has filled it in; any bytes are a valid `Pod`.
    Ok(unsafe { value.assume_init() })
}

/// Room for the answers.
struct Batch<K, V> {
    keys: Vec<MaybeUninit<K>>,
    values: Vec<MaybeUninit<V>>,
    size: u32,
}

impl<K: Pod, V: Pod> Batch<K, V> {
    fn new(size: u32) -> Self {
        let room = size as usize;
        Self {
            keys: vec![MaybeUninit::uninit(); room],
            values: vec![MaybeUninit::uninit(); room],
            size,
        }
    }

    /// Adds the entries after a position, the first ones without. The position to go on from, if
    /// there are more.
    fn read(
        &mut self,
        map: &MapData,
        position: Option<u32>,
        entries: &mut Vec<(K, V)>,
    ) -> io::Result<Option<u32>> {
        let mut next = 0_u32;
        // SAFETY: bpf_attr is a union of plain integers; all-zero is valid for each.
        let mut attr: bpf_attr = unsafe { mem::zeroed() };
        attr.batch.in_batch = position.as_ref().map_or(0, |at| &raw const *at as u64);
        attr.batch.out_batch = &raw mut next as u64;
        attr.batch.keys = self.keys.as_mut_ptr() as u64;
        attr.batch.values = self.values.as_mut_ptr() as u64;
        attr.batch.count = self.size;
        attr.batch.map_fd = map.fd().as_fd().as_raw_fd() as u32;
        // SAFETY: the attribute's pointers lead to room for `size` keys and values, and for a
        // position, all of which outlive the call.
        let read = unsafe { syscall::bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) };
        let is_end = match read {
            // At the end the kernel says that there are no more, and has filled in the last ones.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            read => read.map(|_| false)?,
        };
        // SAFETY: the kernel writes the number here, and nothing else.
        let count = unsafe { attr.batch.count }.min(self.size) as usize;
        let (keys, values) = (&self.keys[..count], &self.values[..count]);
        entries.extend(keys.iter().zip(values).map(|(key, value)| {
            // SAFETY: the kernel has filled in that many; any bytes are a valid `Pod`.
            unsafe { (key.assume_init(), value.assume_init()) }
        }));
        Ok((!is_end).then_some(next))
    }
}
