//! Which SQL reaches the planner: one query of bounded size, and nothing that writes.
//!
//! Parsers and planners recurse into a statement. So tokens are counted before the statement is parsed, and its tables
//! are counted before it is planned.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, Select, SetExpr, Statement as SqlStatement, TableFactor, Value, ValueWithSpan, Visit,
    Visitor,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::dialect;
use super::function::written;
use super::hint;
use super::ignored;
use super::nesting;
use super::parameters;
use super::place::is_table_function;
use super::refusal::{GuardError, INNER_QUERIES_MAX, NESTING_MAX, OPERATORS_MAX, TABLES_MAX, refuse};
use crate::words::shortened;

/// Depth of the parser's recursion. One level of [`NESTING_MAX`] takes several calls.
const PARSER_RECURSION_MAX: usize = 6 * NESTING_MAX;

/// Parses `sql`, which must be one query within the limits.
///
/// # Errors
/// What is wrong, and what is allowed.
pub(super) fn check(sql: &str, bytes_max: usize) -> Result<Statement, GuardError> {
    check_length(sql, bytes_max)?;
    let tokens = dialect::tokens(sql).map_err(|error| GuardError::Syntax(error.to_string()))?;
    count_tokens(&tokens)?;
    let mut statement = parse(sql, tokens)?;
    if let Some(inner) = sql_of_mut(&mut statement) {
        parameters::number(inner)?;
    }
    if let Statement::Statement(inner) = &statement
        && let ControlFlow::Break(error) = ignored::in_statement(inner)
    {
        return Err(error);
    }
    if let Statement::Statement(inner) = &statement
        && let Some(query) = answering(inner)
    {
        statement = parse_text(&query)?;
    }
    check_kind(sql, &statement)?;
    if let Some(inner) = sql_of_mut(&mut statement)
        && let ControlFlow::Break(error) = dialect::rewrite(inner)
    {
        return Err(error);
    }
    // After the columns got their names from the user's own words.
    written::rewrite(&mut statement);
    count_tables(&statement, HashMap::new())?;
    count_inner_queries(&statement, 0)?;
    Ok(statement)
}

/// Whether a text is one condition, as it may stand behind `WHERE`. Errors have places in this text.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_condition(text: &str, bytes_max: usize) -> Result<(), GuardError> {
    check_length(text, bytes_max)?;
    let tokens = dialect::tokens(text).map_err(|error| GuardError::Condition(error.to_string()))?;
    count_tokens(&tokens)?;
    let (_, rest) = dialect::parse_expression(tokens, PARSER_RECURSION_MAX)
        .map_err(|error| GuardError::Condition(hint::of_syntax(text, &error)))?;
    if rest.token == Token::EOF {
        return Ok(());
    }
    let at = rest.span.start;
    Err(GuardError::Condition(format!(
        "it ends before `{}` at Line: {}, Column: {}. A condition is what stands behind WHERE, such as interface = 'lo'",
        shortened(&rest.token.to_string()),
        at.line,
        at.column
    )))
}

/// How much there is to plan.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    /// Tables that are read, counting each use.
    pub(super) tables: usize,
    nesting: usize,
    inner_queries: usize,
    operators: usize,
}

/// The size of a statement that passed [`check`], with all that the views contain that it uses. The limits are those for a statement
/// that contains their text.
///
/// # Errors
/// When it is beyond a limit.
pub(super) fn size(statement: &Statement, sql: &str, views: &HashMap<String, Size>) -> Result<Size, GuardError> {
    let tokens = dialect::tokens(sql).map_err(|error| GuardError::Syntax(error.to_string()))?;
    let own = count_tokens(&tokens)?;
    let nesting = own.nesting + views.values().map(|view| view.nesting + 1).max().unwrap_or(0);
    let operators = own.operators + views.values().map(|view| view.operators).max().unwrap_or(0);
    let tables = count_tables(statement, views.iter().map(|(name, view)| (name.clone(), view.tables)).collect())?;
    if nesting > NESTING_MAX {
        return Err(GuardError::TooDeep);
    }
    if operators > OPERATORS_MAX {
        return Err(GuardError::TooManyOperators(operators));
    }
    let of_views = views.values().map(|view| view.inner_queries).max().unwrap_or(0);
    let inner_queries = count_inner_queries(statement, of_views)?;
    Ok(Size { tables, nesting, inner_queries, operators })
}

/// How deep inner queries nest in expressions, if the deepest one contains those of a view, too.
fn count_inner_queries(statement: &Statement, of_views: usize) -> Result<usize, GuardError> {
    let count = sql_of(statement).map_or(0, nesting::inner_queries) + of_views;
    if count > INNER_QUERIES_MAX { Err(GuardError::TooManyInnerQueries(count)) } else { Ok(count) }
}

/// The query that answers a statement which the planner does not know.
fn answering(statement: &SqlStatement) -> Option<String> {
    match statement {
        // The planner has no DESCRIBE. SHOW COLUMNS gives the same answer.
        SqlStatement::ExplainTable { table_name, .. } => Some(format!("SHOW COLUMNS FROM {table_name}")),
        other => dialect::shown(other),
    }
}

/// Whether the statement is at most `bytes_max` long.
pub(super) fn check_length(sql: &str, bytes_max: usize) -> Result<(), GuardError> {
    if sql.len() > bytes_max { Err(GuardError::TooLong { bytes: sql.len(), bytes_max }) } else { Ok(()) }
}

fn parse_text(sql: &str) -> Result<Statement, GuardError> {
    let tokens = dialect::tokens(sql).map_err(|error| GuardError::Syntax(error.to_string()))?;
    parse(sql, tokens)
}

fn parse(sql: &str, tokens: Vec<TokenWithSpan>) -> Result<Statement, GuardError> {
    let mut statements = dialect::parse(tokens, PARSER_RECURSION_MAX)
        .map_err(|error| GuardError::Syntax(hint::of_syntax(sql, &error)))?;
    match (statements.pop_front(), statements.len()) {
        (Some(statement), 0) => Ok(statement),
        (None, _) => Err(GuardError::Empty),
        (Some(_), more) => Err(GuardError::Several(more + 1)),
    }
}

fn count_tokens(tokens: &[TokenWithSpan]) -> Result<Size, GuardError> {
    let (mut depth, mut nesting) = (0_usize, 0);
    let mut operators = 0;
    let mut explains = 0;
    for TokenWithSpan { token, .. } in tokens {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            Token::Word(word) => match word.keyword {
                Keyword::CASE => depth += 1,
                Keyword::END => depth = depth.saturating_sub(1),
                Keyword::EXPLAIN => explains += 1,
                keyword => operators += usize::from(is_operator(keyword)),
            },
            token => operators += usize::from(!is_operand(token)),
        }
        nesting = nesting.max(depth);
        if nesting > NESTING_MAX {
            return Err(GuardError::TooDeep);
        }
    }
    if operators > OPERATORS_MAX {
        return Err(GuardError::TooManyOperators(operators));
    }
    // The parser recurses from one EXPLAIN into the next without counting the depth.
    if explains > 1 {
        return Err(GuardError::Refused {
            what: "EXPLAIN of an EXPLAIN".into(),
            instead: "explain the query itself".into(),
        });
    }
    Ok(Size { nesting, operators, ..Size::default() })
}

/// Keywords that take one or two operands, and so make the tree one level deeper.
fn is_operator(keyword: Keyword) -> bool {
    use Keyword as K;
    const CONNECTIVES: &[K] = &[K::AND, K::NOT, K::OR, K::XOR];
    const COMPARISONS: &[K] = &[K::BETWEEN, K::IN, K::IS, K::NOTNULL, K::OVERLAPS];
    const PATTERNS: &[K] = &[K::ILIKE, K::LIKE, K::MATCH, K::REGEXP, K::RLIKE, K::SIMILAR];
    const ARITHMETIC: &[K] = &[K::AT, K::COLLATE, K::DIV, K::INTERVAL, K::MOD, K::PRIOR];
    const TABLES: &[K] = &[K::EXCEPT, K::INTERSECT, K::JOIN, K::MINUS, K::UNION];
    [CONNECTIVES, COMPARISONS, PATTERNS, ARITHMETIC, TABLES].iter().any(|group| group.contains(&keyword))
}

/// Tokens that make the tree no deeper, in any number.
fn is_operand(token: &Token) -> bool {
    matches!(
        token,
        Token::Whitespace(_)
            | Token::Comma
            | Token::Period
            | Token::SemiColon
            | Token::EOF
            | Token::Number(..)
            | Token::Char(_)
            | Token::Placeholder(_)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
    )
}

/// The statement of SQL, which may stand in an EXPLAIN.
pub(super) fn sql_of(statement: &Statement) -> Option<&SqlStatement> {
    match statement {
        Statement::Statement(inner) => Some(inner),
        Statement::Explain(explain) => sql_of(&explain.statement),
        _ => None,
    }
}

/// The statement of SQL, which may stand in an EXPLAIN.
pub(super) fn sql_of_mut(statement: &mut Statement) -> Option<&mut SqlStatement> {
    match statement {
        Statement::Statement(inner) => Some(inner),
        Statement::Explain(explain) => sql_of_mut(&mut explain.statement),
        _ => None,
    }
}

fn check_kind(sql: &str, statement: &Statement) -> Result<(), GuardError> {
    let query = match sql_of(statement) {
        Some(SqlStatement::Query(_)) => true,
        Some(other) => matches!(statement, Statement::Statement(_)) && is_query(other),
        None => false,
    };
    if query { Ok(()) } else { Err(GuardError::NoQuery(first_word(sql))) }
}

fn is_query(statement: &SqlStatement) -> bool {
    match statement {
        SqlStatement::Query(_)
        | SqlStatement::ShowTables { .. }
        | SqlStatement::ShowColumns { .. }
        | SqlStatement::ShowFunctions { .. }
        | SqlStatement::ShowVariable { .. } => true,
        SqlStatement::Explain { statement, .. } => matches!(statement.as_ref(), SqlStatement::Query(_)),
        _ => false,
    }
}

/// The statement's first word, for the error.
fn first_word(sql: &str) -> String {
    let words = sql.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let mut words = words.skip_while(|word| ["EXPLAIN", "ANALYZE", "VERBOSE"].contains(&&*word.to_uppercase()));
    words.next().unwrap_or("this").to_uppercase()
}

/// How many tables a statement reads, where `views` are names that stand for several.
fn count_tables(statement: &Statement, views: HashMap<String, usize>) -> Result<usize, GuardError> {
    let mut tables = Tables { views, ..Tables::default() };
    if let Some(inner) = sql_of(statement)
        && let ControlFlow::Break(error) = inner.visit(&mut tables)
    {
        return Err(error);
    }
    if tables.read > TABLES_MAX { Err(GuardError::TooManyTables(tables.read)) } else { Ok(tables.read) }
}

/// Counts the tables that are read, and finds what a query must not contain.
#[derive(Default)]
struct Tables {
    /// Tables read so far by the current query, or by the statement outside any query.
    read: usize,
    /// `read` of the enclosing queries.
    outer: Vec<usize>,
    /// The name of each query in a `WITH`, by the query's address.
    named: HashMap<*const Query, String>,
    /// How many tables each such name reads.
    cost: HashMap<String, usize>,
    /// How many tables each view reads.
    views: HashMap<String, usize>,
    /// Where a named window has an effect, by the expression's address.
    windows: HashSet<*const Expr>,
}

impl Visitor for Tables {
    type Break = GuardError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<GuardError> {
        for named in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.named.insert(&raw const *named.query, named.alias.name.value.to_lowercase());
        }
        self.outer.push(std::mem::take(&mut self.read));
        ignored::in_query(query)?;
        check_body(&query.body)
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<GuardError> {
        let outer = self.outer.pop().unwrap_or_default();
        if let Some(name) = self.named.get(&(&raw const *query)) {
            // A name that is used in two scopes gets the higher count.
            let cost = self.cost.entry(name.clone()).or_default();
            *cost = self.read.max(*cost);
            self.read = outer;
        } else {
            self.read = self.read.saturating_add(outer);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<GuardError> {
        let named = self.cost.get(&relation.to_string().to_lowercase()).copied();
        let view = || relation.0.last()?.as_ident().and_then(|name| self.views.get(&dialect::folded(name)).copied());
        self.read = self.read.saturating_add(named.or_else(view).unwrap_or(1).max(1));
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<GuardError> {
        if select.into.is_some() {
            return refuse("SELECT INTO", "kymo's tables are read-only; save the result with the client");
        }
        ignored::in_select(select, &mut self.windows)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<GuardError> {
        let name = match factor {
            TableFactor::Table { name, args: Some(args), .. } if is_table_function(&name.to_string()) => {
                if args.args.visit(&mut Placeholders).is_break() {
                    return refuse(
                        &format!("a parameter of {name}"),
                        "its rows are planned; write the value into the statement",
                    );
                }
                return ignored::in_table(factor);
            }
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => name.to_string(),
            TableFactor::TableFunction { .. } => "TABLE(…)".into(),
            _ => return ignored::in_table(factor),
        };
        refuse(
            &format!("the table function {name}"),
            "FROM takes only kymo's tables, subqueries, downsample(…), generate_series(…) and range(…)",
        )
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<GuardError> {
        ignored::in_expression(expr, &self.windows)
    }
}

/// Breaks at a parameter.
struct Placeholders;

impl Visitor for Placeholders {
    type Break = ();

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        if matches!(value.value, Value::Placeholder(_)) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn check_body(body: &SetExpr) -> ControlFlow<GuardError> {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            check_body(left)?;
            check_body(right)
        }
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
            refuse("a query that writes", "kymo's tables are read-only")
        }
        // Inner queries are visited separately.
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) | SetExpr::Table(_) => ControlFlow::Continue(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    const BYTES_MAX: usize = 10 << 20;

    fn refused(sql: &str) -> GuardError {
        check(sql, BYTES_MAX).expect_err(sql)
    }

    #[test]
    fn queries_pass() {
        for sql in [
            "SELECT 1",
            "select * from cpu;",
            "WITH a AS (SELECT * FROM cpu) SELECT * FROM a UNION ALL SELECT * FROM a",
            "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT * FROM n",
            "VALUES (1), (2)",
            "EXPLAIN SELECT 1",
            "EXPLAIN ANALYZE SELECT * FROM cpu",
            "SHOW TABLES",
            "SHOW COLUMNS FROM cpu",
            "SHOW ALL",
            "DESCRIBE cpu",
            "DESC cpu",
            "SELECT * FROM (VALUES (1), (2)) AS t(a)",
            "SELECT CASE WHEN a > 1 THEN 'x' ELSE 'y' END FROM cpu",
            "(SELECT 1) UNION (SELECT 2)",
            "SELECT * FROM cpu WHERE cpu = $1",
            "EXPLAIN SELECT * FROM cpu WHERE cpu = ? LIMIT ?",
        ] {
            check(sql, BYTES_MAX).unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }

    #[test]
    fn everything_else_is_named_and_refused() {
        for (sql, word) in [
            ("CREATE TABLE x (a INT)", "CREATE"),
            ("CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '/etc'", "CREATE"),
            ("CREATE VIEW v AS SELECT 1", "CREATE"),
            ("DROP TABLE cpu", "DROP"),
            ("INSERT INTO cpu VALUES (1)", "INSERT"),
            ("UPDATE cpu SET a = 1", "UPDATE"),
            ("DELETE FROM cpu", "DELETE"),
            ("TRUNCATE TABLE cpu", "TRUNCATE"),
            ("COPY cpu TO '/tmp/x.parquet'", "COPY"),
            ("COPY (SELECT 1) TO '/tmp/x.csv'", "COPY"),
            ("SET datafusion.execution.batch_size = 1", "SET"),
            ("RESET datafusion.execution.batch_size", "RESET"),
            ("EXPLAIN COPY cpu TO '/tmp/x.parquet'", "COPY"),
            ("EXPLAIN ANALYZE INSERT INTO cpu VALUES (1)", "INSERT"),
            ("PREPARE p AS SELECT 1", "PREPARE"),
            ("EXECUTE p", "EXECUTE"),
            ("BEGIN", "BEGIN"),
            ("CREATE FUNCTION f() RETURNS INT RETURN 1", "CREATE"),
            ("ANALYZE TABLE cpu", "THIS"),
        ] {
            match refused(sql) {
                GuardError::NoQuery(named) => assert!(named == word || word == "THIS", "{sql}: {named}"),
                GuardError::Syntax(_) if word == "THIS" => {}
                other => panic!("{sql}: {other}"),
            }
        }
    }

    #[test]
    fn queries_that_do_more_than_read_tables_are_refused() {
        for (sql, what) in [
            ("SELECT * INTO x FROM cpu", "SELECT INTO"),
            ("SELECT * FROM read_csv('x')", "the table function read_csv"),
            ("SELECT * FROM cpu, LATERAL generate_series(1, 2)", "the table function generate_series"),
            ("SELECT * FROM cpu WHERE 1 IN (SELECT * FROM glob('*'))", "the table function glob"),
            ("SELECT * FROM cpu WHERE cpu = $name", "the parameter $name"),
            ("SELECT * FROM generate_series(1, ?)", "a parameter of generate_series"),
            ("SELECT * FROM downsample('cpu', 'user_us', ?, now(), 9)", "a parameter of downsample"),
            ("EXPLAIN EXPLAIN SELECT 1", "EXPLAIN of an EXPLAIN"),
        ] {
            match refused(sql) {
                GuardError::Refused { what: found, .. } => assert_eq!(found, what, "{sql}"),
                other => panic!("{sql}: {other}"),
            }
        }
    }

    #[test]
    fn one_statement_of_bounded_length() {
        assert_eq!(refused(""), GuardError::Empty);
        assert_eq!(refused(" ;; -- nothing"), GuardError::Empty);
        assert_eq!(refused("SELECT 1; SELECT 2; SELECT 3"), GuardError::Several(3));
        assert_eq!(check("SELECT 1", 7), Err(GuardError::TooLong { bytes: 8, bytes_max: 7 }));
        assert!(matches!(refused("SELEC 1"), GuardError::Syntax(_)));
        assert!(matches!(refused("SELECT 'open"), GuardError::Syntax(_)));
    }

    #[test]
    fn a_condition_is_judged_by_itself() {
        for condition in ["interface = 'lo' -- mine", "(a OR b) AND\nc > 1", "x IN (SELECT 1)", "true"] {
            check_condition(condition, BYTES_MAX).unwrap_or_else(|error| panic!("{condition}: {error}"));
        }
        for (condition, text) in [
            ("true) OR (true", "it ends before `)` at Line: 1, Column: 5"),
            ("a = 1\nORDER BY a", "it ends before `ORDER` at Line: 2, Column: 1"),
            ("a = 1; SELECT 2", "it ends before `;` at Line: 1, Column: 6"),
            ("(a = 1", "Expected: ), found: EOF"),
            ("a = = 1", "found: = at Line: 1, Column: 5"),
            ("a = 'open", "Line: 1, Column: 5"),
            ("-- nothing", "found: EOF"),
        ] {
            let error = check_condition(condition, BYTES_MAX).expect_err(condition).to_string();
            assert!(error.starts_with("the condition of the tail") && error.contains(text), "{condition}: {error}");
        }
        assert_eq!(check_condition(&"(".repeat(100_000), BYTES_MAX), Err(GuardError::TooDeep));
    }

    #[test]
    fn deep_and_long_statements_are_refused_before_anything_recurses() {
        let many = 100_000;
        for sql in [
            format!("SELECT {}1{}", "(".repeat(many), ")".repeat(many)),
            format!("SELECT {}", "(".repeat(many)),
            format!("SELECT {}", "[".repeat(many)),
            format!("SELECT {}1", "CASE WHEN ".repeat(many)),
        ] {
            assert_eq!(refused(&sql), GuardError::TooDeep);
        }
        for sql in [
            format!("SELECT 1 WHERE 1=1 {}", "OR 1=1 ".repeat(many)),
            format!("SELECT {}1", "- ".repeat(many)),
            format!("SELECT {} true", "NOT ".repeat(many)),
            format!("SELECT 1{}", "::int".repeat(many)),
            format!("SELECT 1 {}", "IS NULL ".repeat(many)),
            format!("SELECT 1 {}", "UNION ALL SELECT 1 ".repeat(many)),
            format!("SELECT {} '1'", "INTERVAL ".repeat(many)),
            format!("SELECT * FROM cpu {}", "NATURAL JOIN cpu ".repeat(many)),
        ] {
            assert!(matches!(refused(&sql), GuardError::TooManyOperators(_)), "{}", &sql[..40]);
        }
        assert!(matches!(refused(&"EXPLAIN ".repeat(many)), GuardError::Refused { .. }));
        assert!(matches!(refused(&format!("SELECT 1{}", ".a".repeat(many))), GuardError::Syntax(_)));
        assert!(refused(&format!("SELECT * FROM cpu{}", ", cpu".repeat(many))) == GuardError::TooManyTables(many + 1));
    }

    #[test]
    fn inner_queries_nest_no_deeper_than_the_planner_bears() {
        let nested = |levels| format!("SELECT 1{}{}", " WHERE EXISTS (SELECT 1".repeat(levels), ")".repeat(levels));
        assert!(check(&nested(INNER_QUERIES_MAX), BYTES_MAX).is_ok());
        let deep = INNER_QUERIES_MAX + 1;
        assert_eq!(refused(&nested(deep)), GuardError::TooManyInnerQueries(deep));
        assert_eq!(
            refused(&format!("SELECT {}1{}", "1 + (SELECT ".repeat(deep), ")".repeat(deep))),
            GuardError::TooManyInnerQueries(deep)
        );
        // Those of a view count where it is used.
        let view = size(&check(&nested(2), BYTES_MAX).unwrap(), &nested(2), &HashMap::new()).unwrap();
        let sql = nested(INNER_QUERIES_MAX - 1).replace("(SELECT 1)", "(SELECT 1 FROM v)");
        let told = size(&check(&sql, BYTES_MAX).unwrap(), &sql, &HashMap::from([("v".to_owned(), view)]));
        assert_eq!(told.unwrap_err(), GuardError::TooManyInnerQueries(deep));
    }

    #[test]
    fn statements_just_within_the_limits_are_parsed() {
        let deep = NESTING_MAX - 1;
        let nested = format!("SELECT {}1{}", "(".repeat(deep), ")".repeat(deep));
        let queries = format!("SELECT * FROM {}cpu{}", "(SELECT * FROM ".repeat(deep), ") AS t".repeat(deep));
        let chain = format!("SELECT 1 WHERE 1=1 {}", "OR 1=1 ".repeat(OPERATORS_MAX / 2 - 1));
        let list = format!("SELECT 1 WHERE 1 IN (0{})", ", 1".repeat(100_000));
        for sql in [nested, queries, chain, list] {
            check(&sql, BYTES_MAX).unwrap_or_else(|error| panic!("{}: {error}", &sql[..40]));
        }
    }

    #[test]
    fn names_that_double_each_other_count_as_what_they_become() {
        let mut sql = String::from("WITH t0 AS (SELECT * FROM cpu)");
        for level in 1..40 {
            write!(sql, ", t{level} AS (SELECT a.* FROM t{0} AS a, t{0} AS b)", level - 1).unwrap();
        }
        sql += " SELECT * FROM t39";
        assert!(matches!(refused(&sql), GuardError::TooManyTables(read) if read > 1 << 30));
    }
}
