//! One entry in one file: a head that says what it is, and the content.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use bytes::{Buf, BufMut, Bytes};
use crc32fast::Hasher;

use super::access;
use crate::tier::TierEntry;

/// What is before the content.
pub(super) struct Head {
    pub(super) key: Box<str>,
    pub(super) tags: Box<[u64]>,
    content: u64,
    checksum: u32,
}

/// `RPC` and a version; the length of key, tags and content; a checksum of all that follows.
const FIXED: usize = 4 + 4 + 4 + 8 + 4;
const MAGIC: u32 = u32::from_be_bytes(*b"RPC1");

/// Writes an entry so that at `path` there is all of it or nothing; tells how long it is.
pub(super) fn write(path: &Path, entry: &TierEntry) -> io::Result<u64> {
    let mut variable = Vec::with_capacity(entry.key.len() + 8 * entry.tags.len());
    variable.put_slice(entry.key.as_bytes());
    entry.tags.iter().for_each(|tag| variable.put_u64(*tag));
    let mut hasher = Hasher::new();
    hasher.update(&variable);
    entry.content.iter().for_each(|piece| hasher.update(piece));
    let mut head = Vec::with_capacity(FIXED + variable.len());
    head.put_u32(MAGIC);
    head.put_u32(entry.key.len() as u32);
    head.put_u32(entry.tags.len() as u32);
    head.put_u64(entry.len());
    head.put_u32(hasher.finalize());
    head.append(&mut variable);

    let unfinished = path.with_extension("new");
    let written = fill(&unfinished, &head, &entry.content).and_then(|()| fs::rename(&unfinished, path));
    if let Err(error) = written {
        drop(fs::remove_file(&unfinished));
        return Err(error);
    }
    Ok(head.len() as u64 + entry.len())
}

fn fill(path: &Path, head: &[u8], content: &[Bytes]) -> io::Result<()> {
    let mut file = match access::create_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), access::create_folder)?;
            access::create_file(path)?
        }
        created => created?,
    };
    file.write_all(head)?;
    content.iter().try_for_each(|piece| file.write_all(piece))
    // Not synced: what a crash leaves of it is told by its length and its checksum.
}

/// What a file says of itself, if it has the length that it says; and that length.
pub(super) fn read_head(path: &Path) -> io::Result<(Head, u64)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let (head, before) = head_of(&mut BufReader::new(file), length)?;
    match before.checked_add(head.content) {
        Some(said) if said == length => Ok((head, length)),
        _ => Err(broken()),
    }
}

/// All of an entry, the content in one piece.
pub(super) fn read(path: &Path) -> io::Result<TierEntry> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let (head, before) = head_of(&mut file, length)?;
    if before.checked_add(head.content) != Some(length) {
        return Err(broken());
    }
    let mut content = Vec::with_capacity(usize::try_from(head.content).map_err(|_| broken())?);
    file.take(head.content).read_to_end(&mut content)?;
    let mut hasher = Hasher::new();
    hasher.update(head.key.as_bytes());
    head.tags.iter().for_each(|tag| hasher.update(&tag.to_be_bytes()));
    hasher.update(&content);
    if hasher.finalize() != head.checksum || content.len() as u64 != head.content {
        return Err(broken());
    }
    Ok(TierEntry::new(head.key, head.tags, vec![content.into()]))
}

/// The head, and its length.
fn head_of(file: &mut impl Read, length: u64) -> io::Result<(Head, u64)> {
    let mut fixed = [0; FIXED];
    file.read_exact(&mut fixed)?;
    let mut fixed = &fixed[..];
    let (magic, key, tags) = (fixed.get_u32(), u64::from(fixed.get_u32()), u64::from(fixed.get_u32()));
    let (content, checksum) = (fixed.get_u64(), fixed.get_u32());
    let variable = key + 8 * tags;
    if magic != MAGIC || variable > length {
        return Err(broken());
    }
    let mut bytes = vec![0; variable as usize];
    file.read_exact(&mut bytes)?;
    let (key, mut tags) = bytes.split_at(key as usize);
    let key = std::str::from_utf8(key).map_err(|_| broken())?.into();
    let mut hashes = Vec::with_capacity(tags.len() / 8);
    while let Ok(tag) = tags.try_get_u64() {
        hashes.push(tag);
    }
    Ok((Head { key, tags: hashes.into(), content, checksum }, FIXED as u64 + variable))
}

fn broken() -> io::Error {
    io::ErrorKind::InvalidData.into()
}
