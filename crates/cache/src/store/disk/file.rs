//! The file of a cache entry: a head and the content.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use bytes::{Buf, BufMut, Bytes};
use crc32fast::Hasher;

use super::access;
use crate::tier::TierEntry;

/// The head of a cache entry's file.
pub(super) struct Head {
    pub(super) key: Box<str>,
    pub(super) tags: Box<[u64]>,
    content_length: u64,
    checksum: u32,
}

/// The size of the fixed part of the head: `RPC`, version, lengths of key, tags and content, and a checksum.
const FIXED: usize = 4 + 4 + 4 + 8 + 4;
const MAGIC: u32 = u32::from_be_bytes(*b"RPC1");

/// Writes an entry's file atomically, and returns its length.
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

    let temporary = path.with_extension("new");
    let written = write_temporary(&temporary, &head, &entry.content).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        drop(fs::remove_file(&temporary));
        return Err(error);
    }
    Ok(head.len() as u64 + entry.len())
}

fn write_temporary(path: &Path, head: &[u8], content: &[Bytes]) -> io::Result<()> {
    let mut file = match access::create_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), access::create_folder)?;
            access::create_file(path)?
        }
        created => created?,
    };
    file.write_all(head)?;
    content.iter().try_for_each(|piece| file.write_all(piece))
    // Not synced: after a crash, length and checksum show whether the file is complete.
}

/// Returns the head and the total length of an entry's file. Fails if the length differs from the one in the head.
pub(super) fn read_head(path: &Path) -> io::Result<(Head, u64)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let (head, before) = parse_head(&mut BufReader::new(file), length)?;
    match before.checked_add(head.content_length) {
        Some(expected) if expected == length => Ok((head, length)),
        _ => Err(corrupt()),
    }
}

/// Reads an entry from its file, with the content in a single buffer.
pub(super) fn read(path: &Path) -> io::Result<TierEntry> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let (head, before) = parse_head(&mut file, length)?;
    if before.checked_add(head.content_length) != Some(length) {
        return Err(corrupt());
    }
    let mut content = Vec::with_capacity(usize::try_from(head.content_length).map_err(|_| corrupt())?);
    file.take(head.content_length).read_to_end(&mut content)?;
    let mut hasher = Hasher::new();
    hasher.update(head.key.as_bytes());
    head.tags.iter().for_each(|tag| hasher.update(&tag.to_be_bytes()));
    hasher.update(&content);
    if hasher.finalize() != head.checksum || content.len() as u64 != head.content_length {
        return Err(corrupt());
    }
    Ok(TierEntry::new(head.key, head.tags, vec![content.into()]))
}

/// Parses the head of an entry's file. Returns the head and its length.
fn parse_head(file: &mut impl Read, length: u64) -> io::Result<(Head, u64)> {
    let mut fixed = [0; FIXED];
    file.read_exact(&mut fixed)?;
    let mut fixed = &fixed[..];
    let (magic, key, tags) = (fixed.get_u32(), u64::from(fixed.get_u32()), u64::from(fixed.get_u32()));
    let (content_length, checksum) = (fixed.get_u64(), fixed.get_u32());
    let variable = key + 8 * tags;
    if magic != MAGIC || variable > length {
        return Err(corrupt());
    }
    let mut bytes = vec![0; variable as usize];
    file.read_exact(&mut bytes)?;
    let (key, mut tags) = bytes.split_at(key as usize);
    let key = std::str::from_utf8(key).map_err(|_| corrupt())?.into();
    let mut hashes = Vec::with_capacity(tags.len() / 8);
    while let Ok(tag) = tags.try_get_u64() {
        hashes.push(tag);
    }
    Ok((Head { key, tags: hashes.into(), content_length, checksum }, FIXED as u64 + variable))
}

fn corrupt() -> io::Error {
    io::ErrorKind::InvalidData.into()
}
