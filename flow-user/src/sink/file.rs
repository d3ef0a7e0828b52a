//! Files that are whole or not there.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

/// Why a file could not be written. Nothing is left behind, and an older file is as it was.
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
    #[error("cannot write {path}: it is there already", path = shown(path))]
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
/// A link is followed; the permissions of an older file are kept. What is not a plain file, such as
/// a pipe or `/dev/null`, is written to and not replaced.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let fail = |step| failure(path, step);
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let older = fs::metadata(&target).ok();
    match &older {
        Some(older) if older.is_dir() => {
            return Err(WriteError::IsFolder {
                path: path.to_owned(),
            });
        }
        Some(older) if !older.is_file() => {
            let mut special = OpenOptions::new()
                .write(true)
                .open(&target)
                .map_err(fail("open"))?;
            return special.write_all(bytes).map_err(fail("write"));
        }
        _ => {}
    }
    let mode = older.map_or(NEW, |older| older.permissions().mode() & 0o777);
    let file = beside(path, &target, mode, bytes)?;
    file.persist(&target)
        .map_err(|error| fail("rename")(error.error))?;
    sync_folder(&target);
    Ok(())
}

/// Writes `bytes` to `path`, where nothing is yet: either all of it is there afterwards, or nothing is.
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

/// The name is on disk only once the folder is. Some filesystems cannot sync a folder; the file is whole all the same.
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
