//! Reads `/proc/self/mountinfo`, for the cgroup v2 tree and named network namespaces.

use std::{ffi::OsString, fs, io, os::unix::ffi::OsStringExt as _, path::PathBuf};

/// A mount of Flow's own mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Directory of the file system that is mounted; `/` for the whole.
    pub root: PathBuf,
    /// Where it is mounted.
    pub point: PathBuf,
    pub fs_type: String,
}

/// Every mount that Flow sees.
///
/// # Errors
/// `/proc` is not mounted.
pub fn mounts() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read("/proc/self/mountinfo")?))
}

/// Lines are `id parent major:minor root point options [tags] - type source options`.
pub(crate) fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|byte| *byte == b' ');
            let root = fields.nth(3)?;
            let point = fields.next()?;
            let fs_type = fields.skip_while(|field| *field != b"-").nth(1)?;
            Some(Mount {
                root: unescape(root),
                point: unescape(point),
                fs_type: String::from_utf8_lossy(fs_type).into_owned(),
            })
        })
        .collect()
}

/// Decodes space, tab, newline and backslash, which are escaped as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        if let [
            b'\\',
            a @ b'0'..=b'3',
            b @ b'0'..=b'7',
            c @ b'0'..=b'7',
            tail @ ..,
        ] = rest
        {
            bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_unescaped_and_odd_lines_skipped() {
        let mounts = parse(
            b"garbage\n\n1 2 0:4 net:[4026532288] /run/netns/a\\040b\\134\\9 rw - nsfs nsfs rw\n1 2 3",
        );
        assert_eq!(
            mounts,
            [Mount {
                root: "net:[4026532288]".into(),
                point: "/run/netns/a b\\\\9".into(),
                fs_type: "nsfs".into(),
            }]
        );
    }

    proptest! {
        #[test]
        fn a_path_comes_back_as_it_was(path in prop::collection::vec(1..=u8::MAX, 1..60)) {
            // As the kernel's `mangle` writes it.
            let escaped: Vec<u8> = path
                .iter()
                .flat_map(|byte| match byte {
                    b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
                    other => vec![*other],
                })
                .collect();
            let line = [b"1 2 0:4 / ", &*escaped, b" rw - nsfs nsfs rw"].concat();
            let mounts = parse(&line);
            prop_assert_eq!(mounts.len(), 1);
            prop_assert_eq!(mounts[0].point.as_os_str().as_bytes(), path);
        }
    }
}
