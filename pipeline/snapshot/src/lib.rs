//! One frozen moment of a source: take it, check it, always release it.
