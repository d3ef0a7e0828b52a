//! Writes the view to a new file in the current directory.

use std::path::{Path, PathBuf};

use crate::sink::{
    export::{Format, Sheet},
    file::{WriteError, write_new},
};

/// Files of one second that get a number behind their name.
const MOST: u32 = 100;

/// Writes it as `name` with what ends the name of such files, or with a number between where that is taken: what is
/// there is never written over. Returns the name.
///
/// # Errors
/// Nothing can be written there.
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
            Err(WriteError::Exists { .. }) if number < MOST => number += 1,
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
    fn a_name_that_is_taken_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let write = |format| write(&sheet(), format, (folder.path(), "a"));
        fs::write(folder.path().join("a.csv"), "mine").unwrap();
        assert_eq!(write(Format::Csv).unwrap(), Path::new("a-2.csv"));
        assert_eq!(write(Format::Csv).unwrap(), Path::new("a-3.csv"));
        assert_eq!(write(Format::Json).unwrap(), Path::new("a.json"));
        let read = |name| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("a.csv"), "mine");
        assert_eq!(read("a-2.csv"), "user\n");
        // Names end, and so does the search for one.
        for number in 4..=MOST {
            fs::write(folder.path().join(format!("a-{number}.csv")), "").unwrap();
        }
        let error = write(Format::Csv).unwrap_err();
        assert!(error.to_string().contains("is there already"), "{error}");
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_told() {
        // Root may write everywhere but here.
        let place = (Path::new("/proc"), "a");
        let error = write(&sheet(), Format::Csv, place).unwrap_err();
        assert!(error.to_string().starts_with("cannot write /proc/a.csv: "));
        let place = (Path::new("/nowhere"), "a");
        let error = write(&sheet(), Format::Csv, place).unwrap_err();
        assert!(error.to_string().contains("no folder /nowhere"), "{error}");
    }
}
