//! Host endpoints.
