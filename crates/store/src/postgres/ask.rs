//! A question whose conditions depend on what was asked.

use tokio_postgres::types::ToSql;

use super::tx::Value;

/// SQL in the making, with its values.
pub(super) struct Ask<'v> {
    pub(super) sql: String,
    pub(super) values: Vec<Value<'v>>,
}

impl<'v> Ask<'v> {
    /// A statement with a WHERE that has the first value, `$1`, in it.
    pub(super) fn new(sql: String, first: Value<'v>) -> Self {
        Self { sql, values: vec![first] }
    }

    /// One condition more; `?` stands for the value.
    pub(super) fn and(&mut self, condition: &str, value: Value<'v>) {
        self.sql.push_str(" AND ");
        self.tail(condition, value);
    }

    /// The same, if there is a value.
    pub(super) fn maybe<T: ToSql + Sync>(&mut self, condition: &str, value: Option<&'v T>) {
        if let Some(value) = value {
            self.and(condition, value);
        }
    }

    /// One condition more with two values, `?` and `??`.
    pub(super) fn pair(&mut self, condition: &str, first: Value<'v>, second: Value<'v>) {
        let condition = condition.replace("??", &format!("${}", self.values.len() + 2));
        self.and(&condition, first);
        self.values.push(second);
    }

    /// What follows the conditions; `?` stands for the value.
    pub(super) fn tail(&mut self, words: &str, value: Value<'v>) {
        self.values.push(value);
        self.sql.push(' ');
        self.sql.push_str(&words.replace('?', &format!("${}", self.values.len())));
    }
}
