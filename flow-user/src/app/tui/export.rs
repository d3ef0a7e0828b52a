//! Writes the rows of a view to a new file in the current directory.

use std::path::{Path, PathBuf};

use crate::sink::{
    export::{Format, Sheet},
    file::{WriteError, write_new},
};

/// Files of the same name at most: the second and later ones get a number.
const MAX_FILES: u32 = 100;

/// Writes `sheet` to `name` with the format's extension, or to `name-2`, `name-3` … if that exists:
/// no file is ever overwritten. Returns the file's name.
///
/// # Errors
/// The file can't be written.
pub fn write(
    sheet: &Sheet,
    format: Format,
    (folder, name): (&Path, &str),
) -> Result<PathBuf, WriteError> {
    let text = sheet.text(format);
    let end = format.extension();
    let mut number = 1;
    loop {
        let file: PathBuf = match number {
            1 => format!("{name}.{end}"),
            number => format!("{name}-{number}.{end}"),
        }
        .into();
        match write_new(&folder.join(&file), text.as_bytes()) {
            Err(WriteError::Exists { .. }) if number < MAX_FILES => number += 1,
            result => return result.map(|()| file),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::query::{columns, view::By};

    fn sheet() -> Sheet {
        Sheet {
            host: "x".to_owned(),
            time: "2026-05-01T14:01:00Z".to_owned(),
            view: "users",
            grouping: "flat",
            filter: String::new(),
            interfaces: Vec::new(),
            sort: "rate".to_owned(),
            since: None,
            columns: columns::of(By::User).iter().take(1).collect(),
            rows: Vec::new(),
            total: None,
        }
    }

    #[test]
    fn an_existing_file_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let write = |format| write(&sheet(), format, (folder.path(), "a"));
        fs::write(folder.path().join("a.csv"), "mine").unwrap();
        assert_eq!(write(Format::Csv).unwrap(), Path::new("a-2.csv"));
        assert_eq!(write(Format::Csv).unwrap(), Path::new("a-3.csv"));
        assert_eq!(write(Format::Json).unwrap(), Path::new("a.json"));
        let read = |name| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("a.csv"), "mine");
        assert_eq!(read("a-2.csv"), "user\n");
        // The search for a free name is bounded.
        for number in 4..=MAX_FILES {
            fs::write(folder.path().join(format!("a-{number}.csv")), "").unwrap();
        }
        let error = write(Format::Csv).unwrap_err();
        assert!(error.to_string().contains("exists already"), "{error}");
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_reported() {
        // Not even root may create a file here.
        let place = (Path::new("/proc"), "a");
        let error = write(&sheet(), Format::Csv, place).unwrap_err();
        assert!(error.to_string().starts_with("cannot write /proc/a.csv: "));
        let place = (Path::new("/nowhere"), "a");
        let error = write(&sheet(), Format::Csv, place).unwrap_err();
        assert!(error.to_string().contains("no folder /nowhere"), "{error}");
    }
}
