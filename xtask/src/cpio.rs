//! Writes a cpio archive in the "newc" format, which Linux unpacks as its initramfs.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::Path,
};

const FOLDER: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const SYMLINK: u32 = 0o120_777;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive being written. Paths are absolute; parent folders are added as needed.
#[derive(Debug)]
pub struct Archive<W> {
    out: W,
    written: u64,
    entries: u32,
    names: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    pub fn new(out: W) -> Self {
        Self {
            out,
            written: 0,
            entries: 0,
            names: BTreeSet::new(),
        }
    }

    /// Whether something of this name was added.
    pub fn contains(&self, path: &str) -> bool {
        self.names.contains(path.trim_start_matches('/'))
    }

    /// # Errors
    /// Writing failed, as in every method here.
    pub fn folder(&mut self, path: &str) -> io::Result<()> {
        if self.contains(path) {
            return Ok(());
        }
        self.add(path, FOLDER, (0, 0), &[])
    }

    pub fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        self.add(path, EXECUTABLE, (0, 0), content)
    }

    pub fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.add(path, SYMLINK, (0, 0), target.as_bytes())
    }

    pub fn character_device(&mut self, path: &str, device: (u32, u32)) -> io::Result<()> {
        self.add(path, CHARACTER_DEVICE, device, &[])
    }

    /// Ends the archive and returns the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn add(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) -> io::Result<()> {
        let name = path.trim_start_matches('/');
        if let Some(parent) = Path::new(name).parent().and_then(Path::to_str)
            && !parent.is_empty()
        {
            self.folder(parent)?;
        }
        self.names.insert(name.to_owned());
        self.entry(name, mode, device, content)
    }

    fn entry(
        &mut self,
        name: &str,
        mode: u32,
        device: (u32, u32),
        content: &[u8],
    ) -> io::Result<()> {
        let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, name.to_owned());
        let size = u32::try_from(content.len()).map_err(|_| too_large())?;
        let name_size = u32::try_from(name.len() + 1).map_err(|_| too_large())?;
        self.entries += 1;
        let (owner, group, links, time, checksum) = (0, 0, 1, 0, 0);
        let fields: [u32; 13] = [
            self.entries,
            mode,
            owner,
            group,
            links,
            time,
            size,
            0,
            0,
            device.0,
            device.1,
            name_size,
            checksum,
        ];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        self.write(header.as_bytes())?;
        self.write(name.as_bytes())?;
        self.write(&[0])?;
        self.align()?;
        self.write(content)?;
        self.align()
    }

    fn align(&mut self) -> io::Result<()> {
        let missing = self.written.next_multiple_of(4) - self.written;
        self.write(&[0; 3][..usize::try_from(missing).unwrap_or(0)])
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_laid_out_as_the_kernel_reads_it() {
        let mut archive = Archive::new(Vec::new());
        archive.file("/a/bc", b"hello").unwrap();
        let bytes = archive.finish().unwrap();

        let folder = b"07070100000001000041ed00000000000000000000000100000000\
            0000000000000000000000000000000000000000000000020000000\
            0a\0";
        assert_eq!(&bytes[..110 + 2], folder);
        let file = 112;
        assert_eq!(&bytes[file..file + 6], b"070701");
        assert_eq!(&bytes[file + 54..file + 62], b"00000005", "size");
        assert_eq!(
            &bytes[file + 94..file + 102],
            b"00000005",
            "size of the name with its end"
        );
        assert_eq!(
            &bytes[file + 110..file + 116],
            b"a/bc\0\0".get(..6).unwrap()
        );
        assert_eq!(bytes.len() % 4, 0);
        assert!(String::from_utf8_lossy(&bytes).contains("TRAILER!!!"));
    }

    #[test]
    fn folders_above_a_file_are_made_once() {
        let mut archive = Archive::new(Vec::new());
        archive.file("/usr/bin/a", b"").unwrap();
        archive.file("/usr/bin/b", b"").unwrap();
        assert!(archive.contains("/usr/bin"));
        let text = String::from_utf8(archive.finish().unwrap()).unwrap();
        assert_eq!(text.matches("usr/bin\0").count(), 1);
    }
}
