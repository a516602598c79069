//! The program `dualsync-block`.
fn main() -> std::process::ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let [_, mode, request] = arguments.as_slice()
        && mode == dualsync_block::view::inside::MODE
    {
        return dualsync_block::view::inside::main(request);
    }
    std::process::ExitCode::from(2)
}
