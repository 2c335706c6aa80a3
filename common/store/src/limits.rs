//! Every bound on what a layer from elsewhere may ask of this host, by name and with its reason.

/// Largest piece of a file that is compressed and verified on its own, uncompressed bytes (decision 1 of the layer
/// format). What is decompressed in memory at a time.
pub const MAX_CHUNK_LEN: u32 = 1 << 20;
/// Largest compressed chunk: zstd's worst case for [`MAX_CHUNK_LEN`], rounded up.
pub const MAX_COMPRESSED_CHUNK_LEN: u32 = MAX_CHUNK_LEN + (MAX_CHUNK_LEN >> 7) + 1024;
/// Largest table of contents of a layer, compressed and uncompressed: 64 MiB holds about 300,000 files.
pub const MAX_TOC_LEN: u64 = 64 << 20;
/// Most entries of a layer. The largest distribution images have about 250,000.
pub const MAX_ENTRIES: usize = 500_000;
/// Most entries of all layers of an image together that are merged in memory to be looked into: some 500 MB of memory.
pub const MAX_ROOTFS_ENTRIES: usize = 2_000_000;
/// Most chunks of a layer: 1 TiB of content in whole chunks, and every entry a few.
pub const MAX_CHUNKS: usize = 2 << 20;
/// Most bytes of file content of a layer, holes included. Also what stops a decompression bomb on import.
pub const MAX_LAYER_CONTENT: u64 = 1 << 40;
/// Most bytes of one file, holes included.
pub const MAX_FILE_LEN: u64 = MAX_LAYER_CONTENT;
/// Most bytes of a tar stream: the content, and headers for every entry.
pub const MAX_TAR_LEN: u64 = MAX_LAYER_CONTENT + (1 << 38);
/// Most symbolic links on the way to one file, as the kernel has it.
pub const MAX_LINKS_FOLLOWED: usize = 40;
/// Longest path inside a layer. The kernel ends at 4,096 bytes, and the store's own folders stand before it.
pub const MAX_PATH_LEN: usize = 3584;
/// Longest name of one file or folder, from the kernel's `NAME_MAX`.
pub const MAX_NAME_LEN: usize = 255;
/// Deepest nesting of folders: more than any software uses, few enough to walk.
pub const MAX_PATH_DEPTH: usize = 256;
/// Longest target of a symbolic link, from the kernel's `PATH_MAX`.
pub const MAX_SYMLINK_LEN: usize = 4095;
/// Most extended attributes of one entry.
pub const MAX_XATTRS: usize = 64;
/// Longest name of an extended attribute, from the kernel's `XATTR_NAME_MAX`.
pub const MAX_XATTR_NAME_LEN: usize = 255;
/// Longest value of an extended attribute, from the kernel's `XATTR_SIZE_MAX`.
pub const MAX_XATTR_LEN: usize = 64 << 10;
/// Largest PAX header or GNU long name of a tar entry: room for [`MAX_XATTRS`] ordinary attributes and a long path.
pub const MAX_TAR_HEADER_LEN: u64 = 1 << 20;
/// Most files of a layer that are held open while it arrives.
pub const MAX_OPEN_FILES: usize = 64;
/// Most entries of an archive of images: the documents, configs and layers of some thousand images.
pub const MAX_ARCHIVE_ENTRIES: usize = 1 << 16;
/// Most images of a docker archive.
pub const MAX_DOCKER_IMAGES: usize = 1024;
/// Most parts of an archive: their numbers have four digits, so that names sort.
pub const MAX_PARTS: u32 = 9_999;
/// Fewest bytes of a part of an archive: below that, names outweigh content.
pub const MIN_PART_LEN: u64 = 64 << 10;
