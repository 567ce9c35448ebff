//! The archive that the kernel unpacks as its first root: `newc` (Documentation/driver-api/early-userspace/
//! buffer-format.rst).

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;

/// What an archive has at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Directory,
    /// Permissions and contents.
    File(u32, Vec<u8>),
}

/// Files and directories by path, without a leading slash. Directories above what is in it are made of themselves.
#[derive(Debug, Default)]
pub struct Archive {
    entries: BTreeMap<String, Entry>,
}

impl Archive {
    /// Puts a file in.
    pub fn add(&mut self, path: &str, mode: u32, contents: Vec<u8>) {
        let path = path.trim_start_matches('/');
        for (slash, _) in path.match_indices('/') {
            self.entries.entry(path[..slash].to_owned()).or_insert(Entry::Directory);
        }
        self.entries.insert(path.to_owned(), Entry::File(mode, contents));
    }

    /// Puts a file of this machine in, under a name.
    pub fn copy(&mut self, from: &Path, to: &str, mode: u32) -> io::Result<()> {
        self.add(to, mode, std::fs::read(from)?);
        Ok(())
    }

    /// Writes it; what is above another comes before it, since paths are in order.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let trailer = ("TRAILER!!!".to_owned(), Entry::File(0, Vec::new()));
        let entries = self.entries.iter().chain([(&trailer.0, &trailer.1)]);
        for (number, (path, entry)) in (1_u32..).zip(entries) {
            let (mode, contents): (u32, &[u8]) = match entry {
                Entry::Directory => (DIRECTORY | 0o755, &[]),
                Entry::File(mode, contents) => (FILE | mode, contents),
            };
            let too_long = || io::Error::new(io::ErrorKind::InvalidData, format!("{path} is too long"));
            let size = u32::try_from(contents.len()).map_err(|_| too_long())?;
            let name = u32::try_from(path.len() + 1).map_err(|_| too_long())?;
            // Inode, mode, owner, group, links, time, size, device, its own device, name, checksum.
            let fields = [number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0];
            let mut head = String::from("070701");
            fields.iter().for_each(|field| head.push_str(&format!("{field:08x}")));
            head.push_str(path);
            head.push('\0');
            out.write_all(head.as_bytes())?;
            pad(out, head.len())?;
            out.write_all(contents)?;
            pad(out, contents.len())?;
        }
        Ok(())
    }
}

/// Everything begins at a multiple of four.
fn pad(out: &mut impl Write, written: usize) -> io::Result<()> {
    out.write_all(&[0; 3][..written.next_multiple_of(4) - written])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_kernel_reads_it() {
        let mut archive = Archive::default();
        archive.add("/bin/sh", 0o755, b"hello".to_vec());
        let mut bytes = Vec::new();
        archive.write(&mut bytes).expect("memory");
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).expect("only text here");
        let field = |entry: usize, number: usize| {
            let start = text.match_indices("070701").nth(entry).expect("there").0 + 6 + 8 * number;
            u32::from_str_radix(&text[start..start + 8], 16).expect("hexadecimal")
        };
        assert_eq!((field(0, 1), field(0, 6), field(0, 11)), (0o040_755, 0, 4), "bin, before what is in it");
        assert_eq!((field(1, 1), field(1, 6), field(1, 11)), (0o100_755, 5, 7));
        assert!(
            text.contains("bin/sh\0")
                && text.contains("hello\0\0\x00070701")
                && text.contains("TRAILER!!!\0")
        );
    }
}
