use std::io::Write;
use std::os::unix::fs::FileExt;

use super::*;

fn image(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn an_image_reads_back_at_any_offset() {
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    let file = image(&bytes);
    let source = Source::open(file.path(), false).unwrap();
    assert_eq!(source.size_bytes(), 100_000);
    let mut buffer = AlignedBuf::new(8192);
    for (offset, length) in [(0, 8192), (1, 4095), (99_999, 1), (100_000, 0)] {
        buffer.set_len(length);
        source.read_at(offset, &mut buffer).unwrap();
        let offset = usize::try_from(offset).unwrap();
        assert_eq!(&buffer[..], &bytes[offset..offset + length]);
    }
}

#[test]
fn a_range_beyond_the_end_is_refused_even_where_it_overflows() {
    let file = image(&[1; 5000]);
    let source = Source::open(file.path(), false).unwrap();
    let mut buffer = AlignedBuf::new(4096);
    for offset in [905, 5000, u64::MAX - 1, u64::MAX] {
        assert!(matches!(source.read_at(offset, &mut buffer), Err(DeviceError::Range { .. })), "{offset}");
    }
}

#[test]
fn an_image_truncated_under_the_reader_is_an_error_with_the_offset() {
    let file = image(&vec![1; 20_000]);
    let source = Source::open(file.path(), false).unwrap();
    file.as_file().set_len(10_000).unwrap();
    let mut buffer = AlignedBuf::new(4096);
    match source.read_at(8192, &mut buffer) {
        Err(DeviceError::Short { offset: 10_000, size_bytes: 20_000, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(matches!(source.check_size(), Err(DeviceError::SizeChanged { before: 20_000, now: 10_000, .. })));
    assert!(matches!(source.next_data(15_000), Err(DeviceError::SizeChanged { .. })));
}

#[test]
fn an_image_that_grew_is_noticed_after_the_last_read() {
    let file = image(&[1; 4096]);
    let source = Source::open(file.path(), false).unwrap();
    source.check_size().unwrap();
    file.as_file().set_len(8192).unwrap();
    let error = source.check_size().unwrap_err();
    assert!(error.to_string().ends_with("has 8192 bytes, and had 4096 when it was opened"), "{error}");
}

#[test]
fn holes_are_passed_over_and_data_is_not() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(8 << 20).unwrap();
    file.as_file().write_all_at(&[9; 4096], 2 << 20).unwrap();
    file.as_file().write_all_at(&[9; 10], 5 << 20).unwrap();
    let source = Source::open(file.path(), false).unwrap();
    let mut covered = Vec::new();
    let mut at = 0;
    while let Some(range) = source.next_data(at).unwrap() {
        assert!(range.start >= at && range.end > range.start && range.end <= source.size_bytes());
        at = range.end;
        covered.push(range);
    }
    let holds = |offset: u64| covered.iter().any(|range| range.contains(&offset));
    assert!(holds(2 << 20) && holds((2 << 20) + 4095) && holds(5 << 20) && holds((5 << 20) + 9), "{covered:?}");
    assert_eq!(source.next_data(8 << 20).unwrap(), None);
    // Whatever was passed over must read as zeros.
    let mut buffer = AlignedBuf::new(4096);
    for offset in (0..8_u64 << 20).step_by(4096).filter(|offset| !holds(*offset)) {
        source.read_at(offset, &mut buffer).unwrap();
        assert!(buffer.iter().all(|byte| *byte == 0), "{offset}");
    }
}

#[test]
fn what_is_not_what_the_job_says_is_refused() {
    let file = image(b"x");
    assert!(matches!(Source::open(file.path(), true), Err(DeviceError::WrongKind { expected: "a block device", .. })));
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Source::open(folder.path(), false), Err(DeviceError::WrongKind { .. })));
    assert!(matches!(Source::open(Path::new("/dev/null"), true), Err(DeviceError::WrongKind { .. })));
    let missing = folder.path().join("missing");
    let error = Source::open(&missing, false).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    let fifo = folder.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    assert!(matches!(Source::open(&fifo, false), Err(DeviceError::WrongKind { .. })));
}

#[test]
fn an_empty_image_has_no_data() {
    let file = image(b"");
    let source = Source::open(file.path(), false).unwrap();
    assert_eq!((source.size_bytes(), source.next_data(0).unwrap()), (0, None));
    source.check_size().unwrap();
}
