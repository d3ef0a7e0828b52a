//! Writes files as a whole or not at all.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use nix::errno::Errno;
use tempfile::NamedTempFile;

/// The reason why a file could not be written. Nothing is left behind, and an older file is
/// unchanged.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error(
        "cannot write {path}: there is no folder {folder}; make it with: mkdir -p {folder}",
        path = shown(path), folder = shown(folder)
    )]
    NoFolder { path: PathBuf, folder: PathBuf },
    #[error("cannot write {path}: it is a folder; name a file in it", path = shown(path))]
    IsFolder { path: PathBuf },
    #[error(
        "cannot write {path}: the disk is full; free some space or choose another place",
        path = shown(path)
    )]
    DiskFull { path: PathBuf },
    #[error(
        "cannot write {path}: {source}; choose a place that you may write to",
        path = shown(path)
    )]
    NotPermitted { path: PathBuf, source: io::Error },
    #[error(
        "cannot write {path}: it may not become that large; raise the limit with ulimit -f, or choose \
         another place",
        path = shown(path)
    )]
    TooLarge { path: PathBuf },
    #[error("cannot write {path}: it is a link that leads back to itself", path = shown(path))]
    Circle { path: PathBuf },
    #[error("cannot write {path}: it exists already", path = shown(path))]
    Exists { path: PathBuf },
    #[error("cannot write {path}: {step}: {source}", path = shown(path))]
    Other {
        path: PathBuf,
        step: &'static str,
        source: io::Error,
    },
}

/// Writes `bytes` to `path`: either all of it is there afterwards, also after a power cut, or what
/// was there before.
///
/// A link is followed, also to where nothing is yet; the permissions of an older file are kept.
/// What is not a plain file, such as a pipe or `/dev/null`, is written to and not replaced.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let fail = |step| failure(path, step);
    let older = fs::metadata(path).ok();
    let target = match &older {
        Some(older) if older.is_dir() => {
            return Err(WriteError::IsFolder {
                path: path.to_owned(),
            });
        }
        Some(older) if older.is_file() => match fs::canonicalize(path) {
            Ok(target) => target,
            // Its name is gone: /dev/stdout leads to a file that was removed since.
            Err(_) => return write_in_place(path, bytes),
        },
        Some(_) => return write_in_place(path, bytes),
        None => end_of_links(path).map_err(fail("follow the link"))?,
    };
    let mode = older.map_or(NEW, |older| older.permissions().mode() & 0o777);
    let file = beside(path, &target, mode, bytes)?;
    file.persist(&target)
        .map_err(|error| fail("rename")(error.error))?;
    sync_folder(&target);
    Ok(())
}

fn write_in_place(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let fail = |step| failure(path, step);
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .truncate(true)
        .open(path)
        .map_err(fail("open"))?;
    file.write_all(bytes).map_err(fail("write"))
}

/// Follows links from a path that end at a missing file. The kernel does the same when it creates a
/// file.
fn end_of_links(path: &Path) -> io::Result<PathBuf> {
    let mut end = path.to_owned();
    for _ in 0..LINKS {
        match fs::read_link(&end) {
            // An absolute one takes the place of all before it.
            Ok(link) => end = folder_of(&end).join(link),
            // No link; what else is wrong is found when the file is made.
            Err(_) => return Ok(end),
        }
    }
    Err(Errno::ELOOP.into())
}

/// So many links the kernel follows, one after the other.
const LINKS: usize = 40;

/// Writes `bytes` to `path`, where nothing is yet: either all of it is there afterwards, or nothing
/// is.
///
/// # Errors
/// [`WriteError::Exists`] where something is, a link that leads nowhere among it.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let file = beside(path, path, NEW, bytes)?;
    file.persist_noclobber(path)
        .map_err(|error| match error.error.kind() {
            ErrorKind::AlreadyExists => WriteError::Exists {
                path: path.to_owned(),
            },
            _ => failure(path, "rename")(error.error),
        })?;
    sync_folder(path);
    Ok(())
}

/// Permissions as a shell's redirection would make them: what the umask leaves of rw-rw-rw-.
const NEW: u32 = 0o666;

/// All of `bytes` in a temporary file beside `target`, which gets the name later.
fn beside(
    path: &Path,
    target: &Path,
    mode: u32,
    bytes: &[u8],
) -> Result<NamedTempFile, WriteError> {
    let fail = |step| failure(path, step);
    let folder = folder_of(target);
    if !folder.is_dir() {
        return Err(WriteError::NoFolder {
            path: path.to_owned(),
            folder: folder.to_owned(),
        });
    }
    let mut file = tempfile::Builder::new()
        .prefix(".flow-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder)
        .map_err(fail("create a temporary file beside it"))?;
    file.write_all(bytes).map_err(fail("write"))?;
    file.as_file().sync_all().map_err(fail("fsync"))?;
    Ok(file)
}

/// The name is on disk only once the folder is. Some filesystems cannot sync a folder; the file is
/// whole all the same.
fn sync_folder(target: &Path) {
    if let Ok(folder) = File::open(folder_of(target)) {
        let _unsupported = folder.sync_all();
    }
}

fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn failure(path: &Path, step: &'static str) -> impl Fn(io::Error) -> WriteError {
    move |source| match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => WriteError::DiskFull {
            path: path.to_owned(),
        },
        ErrorKind::FileTooLarge => WriteError::TooLarge {
            path: path.to_owned(),
        },
        _ if source.raw_os_error() == Some(libc::ELOOP) => WriteError::Circle {
            path: path.to_owned(),
        },
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => WriteError::NotPermitted {
            path: path.to_owned(),
            source,
        },
        _ => WriteError::Other {
            path: path.to_owned(),
            step,
            source,
        },
    }
}

fn shown(path: &Path) -> String {
    super::text::escape(&path.to_string_lossy()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        write_atomically(&path, b"one").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(names(folder.path()), ["report.json"]);
    }

    #[test]
    fn what_is_there_is_not_written_over_where_only_new_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let [path, link] = ["a.csv", "link"].map(|name| folder.path().join(name));
        write_new(&path, b"one").unwrap();
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        for taken in [&path, &link] {
            let error = write_new(taken, b"two").unwrap_err();
            assert!(matches!(error, WriteError::Exists { .. }), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(names(folder.path()).len(), 2, "something was left behind");
        let error = write_new(&folder.path().join("no/x"), b"x").unwrap_err();
        assert!(error.to_string().contains("mkdir -p"), "{error}");
    }

    #[test]
    fn a_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_atomically(&link, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }

    #[test]
    fn a_link_to_where_nothing_is_yet_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("in")).unwrap();
        for (link, to) in [
            ("in/relative", "../one"),
            ("absolute", at("two").to_str().unwrap()),
            ("first", "in/second"),
            ("in/second", "three"),
            ("lost", "no/such/file"),
            ("self", "self"),
            ("to", "fro"),
            ("fro", "to"),
        ] {
            std::os::unix::fs::symlink(to, at(link)).unwrap();
        }
        for (link, target) in [
            ("in/relative", "one"),
            ("absolute", "two"),
            ("first", "in/three"),
        ] {
            write_atomically(&at(link), b"new").unwrap();
            assert!(at(link).is_symlink(), "{link} is replaced");
            assert_eq!(fs::read(at(target)).unwrap(), b"new", "{link}");
            write_atomically(&at(link), b"newer").unwrap();
            assert_eq!(fs::read(at(target)).unwrap(), b"newer", "{link}");
        }
        let error = |link: &str| write_atomically(&at(link), b"x").unwrap_err();
        let lost = error("lost").to_string();
        assert!(
            lost.contains("mkdir -p") && lost.contains("no/such"),
            "{lost}"
        );
        for link in ["self", "to"] {
            assert!(
                matches!(error(link), WriteError::Circle { .. }),
                "{}",
                error(link)
            );
        }
        let hidden = |name: &String| name.starts_with('.');
        for folder in [folder.path(), &at("in")] {
            assert!(
                !names(folder).iter().any(hidden),
                "something was left behind"
            );
        }
    }

    #[test]
    fn a_file_whose_name_is_gone_is_written_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        fs::remove_file(&path).unwrap();
        let link = folder.path().join("link");
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
        std::os::unix::fs::symlink(format!("/proc/self/fd/{descriptor}"), &link).unwrap();
        write_atomically(&link, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(io::read_to_string(file).unwrap(), "new");
        assert_eq!(names(folder.path()), ["link"]);
    }

    #[test]
    fn errors_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = |path: &Path| write_atomically(path, b"x").unwrap_err().to_string();
        assert!(error(&folder.path().join("no/x\n.json")).contains("mkdir -p"));
        assert!(!error(&folder.path().join("no/x\n.json")).contains('\n'));
        assert!(error(folder.path()).contains("it is a folder"));
    }

    #[test]
    fn devices_are_written_to_and_not_replaced() {
        write_atomically(Path::new("/dev/null"), b"x").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let error = write_atomically(Path::new("/dev/full"), b"x").unwrap_err();
        assert!(matches!(error, WriteError::DiskFull { .. }), "{error}");
    }
}
