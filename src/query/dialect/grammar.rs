//! How text becomes a syntax tree: the parser's generic dialect, with the operators and precedences of PostgreSQL.

use std::any::TypeId;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, UnaryOperator};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::build;

/// `^` binds more tightly than `*`, and less tightly than `::`.
const POWER: u8 = 45;

/// The dialect. Whatever it does not say is as in the generic one.
#[derive(Debug, Default)]
pub(in crate::query) struct Kymo {
    /// The conditions of a chain of joins stand behind all of it, the innermost first: `a JOIN b JOIN c ON … ON …`.
    pub(in crate::query) late_conditions: bool,
}

/// What the generic dialect allows in queries.
macro_rules! allowed {
    ($($feature:ident)*) => { $(fn $feature(&self) -> bool { true })* };
}

impl Dialect for Kymo {
    fn dialect(&self) -> TypeId {
        // The parser asks for this where it does not ask for a feature.
        TypeId::of::<GenericDialect>()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"' || ch == '`'
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    allowed! {
        allow_extract_custom
        allow_extract_single_quotes
        support_map_literal_syntax
        supports_array_typedef_with_brackets
        supports_bitwise_shift_operators
        supports_comma_separated_trim
        supports_comment_optimizer_hint
        supports_connect_by
        supports_cte_without_as
        supports_data_type_signed_suffix
        supports_dictionary_syntax
        supports_empty_projections
        supports_explain_with_utility_options
        supports_extract_comma_syntax
        supports_filter_during_aggregation
        supports_from_first_select
        supports_group_by_expr
        supports_group_by_with_modifier
        supports_interval_options
        supports_limit_by
        supports_limit_comma
        supports_match_against
        supports_multiline_comment_hints
        supports_named_fn_args_with_assignment_operator
        supports_nested_comments
        supports_notnull_operator
        supports_parens_around_table_factor
        supports_partition_by_after_order_by
        supports_pipe_operator
        supports_prewhere
        supports_projection_trailing_commas
        supports_quote_delimited_string
        supports_select_format
        supports_select_wildcard_except
        supports_select_wildcard_exclude
        supports_select_wildcard_ilike
        supports_select_wildcard_rename
        supports_select_wildcard_replace
        supports_settings
        supports_start_transaction_modifier
        supports_string_escape_constant
        supports_struct_literal
        supports_try_convert
        supports_unicode_string_literal
        supports_values_as_table_factor
        supports_window_clause_named_window_reference
        supports_window_function_null_treatment_arg
    }

    fn supports_left_associative_joins_without_parens(&self) -> bool {
        !self.late_conditions
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        match &parser.peek_token_ref().token {
            Token::Caret => Some(Ok(POWER)),
            token if is_word(token, "ISNULL") => Some(Ok(self.prec_value(Precedence::Is))),
            _ => None,
        }
    }

    fn parse_prefix(&self, parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        let sign = match parser.peek_token_ref().token {
            // A sign binds more tightly than `^`: -2 ^ 2 is 4.
            Token::Minus => UnaryOperator::Minus,
            Token::Plus => UnaryOperator::Plus,
            Token::PGSquareRoot => return Some(function_of_next(parser, "sqrt")),
            Token::PGCubeRoot => return Some(function_of_next(parser, "cbrt")),
            Token::AtSign => return Some(function_of_next(parser, "abs")),
            _ => return None,
        };
        parser.advance_token();
        let operand = parser.parse_subexpr(POWER);
        Some(operand.map(|operand| Expr::UnaryOp { op: sign, expr: Box::new(operand) }))
    }

    fn parse_infix(&self, parser: &mut Parser<'_>, left: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
        use Keyword::{DISTINCT, FROM, IS, NOT};

        let left = || Box::new(left.clone());
        if parser.parse_keywords(&[IS, DISTINCT, FROM]) {
            // The parser would take all that follows, with AND and OR, for the right side.
            let right = parser.parse_subexpr(precedence);
            return Some(right.map(|right| Expr::IsDistinctFrom(left(), Box::new(right))));
        }
        if parser.parse_keywords(&[IS, NOT, DISTINCT, FROM]) {
            let right = parser.parse_subexpr(precedence);
            return Some(right.map(|right| Expr::IsNotDistinctFrom(left(), Box::new(right))));
        }
        let op = match &parser.peek_token_ref().token {
            Token::Caret => BinaryOperator::PGExp,
            Token::Sharp => BinaryOperator::PGBitwiseXor,
            Token::Word(word) if word.keyword == Keyword::DIV => BinaryOperator::DuckIntegerDivide,
            token if is_word(token, "ISNULL") => {
                parser.advance_token();
                return Some(Ok(Expr::IsNull(left())));
            }
            _ => return None,
        };
        parser.advance_token();
        let right = parser.parse_subexpr(precedence);
        Some(right.map(|right| match op {
            BinaryOperator::DuckIntegerDivide => build::call("div", vec![*left(), right]),
            op => Expr::BinaryOp { left: left(), op, right: Box::new(right) },
        }))
    }
}

/// A function of the operand behind a prefix operator, which is the next token.
fn function_of_next(parser: &mut Parser<'_>, function: &str) -> Result<Expr, ParserError> {
    parser.advance_token();
    Ok(build::call(function, vec![parser.parse_subexpr(POWER)?]))
}

fn is_word(token: &Token, text: &str) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
}

/// The tokens that the parser gets: without words that it does not know and that change no answer, and with those that it needs.
pub(super) fn prepared(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut prepared: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut rest = tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).peekable();
    while let Some(token) = rest.next() {
        // 1_000 is 1000. The parser would take _000 for an alias.
        if let Some(digits) = more_digits(prepared.last(), &token)
            && let Some(TokenWithSpan { token: Token::Number(number, _), span }) = prepared.last_mut()
        {
            number.push_str(&digits);
            span.end = token.span.end;
            continue;
        }
        let before = prepared.last().map(|token| &token.token);
        let next = rest.peek().map(|token| &token.token);
        match keyword(&token.token) {
            // WITH t AS [NOT] MATERIALIZED (…): how often a query runs changes no answer.
            Some(Keyword::NOT) if is(before, Keyword::AS) && is(next, Keyword::MATERIALIZED) => {}
            Some(Keyword::MATERIALIZED) if is(before, Keyword::AS) && next == Some(&Token::LParen) => {}
            // TABLE host is short for SELECT * FROM host.
            Some(Keyword::TABLE) if begins_query(before) && matches!(next, Some(Token::Word(_))) => {
                for word in [Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM")] {
                    prepared.push(TokenWithSpan { token: word, span: token.span });
                }
            }
            // 2 ** 10 is 2 ^ 10.
            _ if token.token == Token::Mul && stands_at(prepared.last(), &token) => {
                prepared.pop();
                prepared.push(TokenWithSpan { token: Token::Caret, span: token.span });
            }
            _ => prepared.push(token),
        }
    }
    with_whole_keys(prepared)
}

/// `ROLLUP ((a + b) * 2, c)`: the parser takes what begins with a parenthesis for a list of keys that ends with it. So such a key gets
/// parentheses of its own.
fn with_whole_keys(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is_list = |at: usize| {
        let word = at.checked_sub(1).and_then(|before| keyword(&tokens[before].token));
        tokens[at].token == Token::LParen && matches!(word, Some(Keyword::ROLLUP | Keyword::CUBE | Keyword::SETS))
    };
    let mut opened = Vec::new();
    let mut closed = Vec::new();
    for list in (0..tokens.len()).filter(|at| is_list(*at)) {
        let (mut depth, mut start, mut inner_end) = (0_usize, list + 1, None);
        for (at, TokenWithSpan { token, .. }) in tokens.iter().enumerate().skip(list + 1) {
            match token {
                Token::Comma | Token::RParen if depth == 0 => {
                    if tokens[start].token == Token::LParen && inner_end.is_some_and(|end| end + 1 < at) {
                        opened.push(start);
                        closed.push(at);
                    }
                    if *token == Token::RParen {
                        break;
                    }
                    (start, inner_end) = (at + 1, None);
                }
                Token::LParen => depth += 1,
                Token::RParen => {
                    depth -= 1;
                    if depth == 0 && inner_end.is_none() {
                        inner_end = Some(at);
                    }
                }
                _ => {}
            }
        }
    }
    let mut whole = Vec::with_capacity(tokens.len() + 2 * opened.len());
    for (at, token) in tokens.into_iter().enumerate() {
        let span = token.span;
        let times = |places: &[usize]| places.iter().filter(|place| **place == at).count();
        let (before, after) = (times(&closed), times(&opened));
        whole.extend(std::iter::repeat_n(TokenWithSpan { token: Token::RParen, span }, before));
        whole.extend(std::iter::repeat_n(TokenWithSpan { token: Token::LParen, span }, after));
        whole.push(token);
    }
    whole
}

/// Whether one condition behind another may belong to a join further in front. A natural join has none.
pub(super) fn may_have_late_conditions(tokens: &[TokenWithSpan]) -> bool {
    let has = |wanted| tokens.iter().filter(|token| is(Some(&token.token), wanted)).count();
    has(Keyword::JOIN) > 1 && has(Keyword::ON) + has(Keyword::USING) > 1 && has(Keyword::NATURAL) == 0
}

/// The digits that a token adds to a number immediately before it.
fn more_digits(before: Option<&TokenWithSpan>, token: &TokenWithSpan) -> Option<String> {
    let (TokenWithSpan { token: Token::Number(..), span }, Token::Word(word)) = (before?, &token.token) else {
        return None;
    };
    let groups = word.value.strip_prefix('_').filter(|_| word.quote_style.is_none() && span.end == token.span.start)?;
    groups
        .split('_')
        .all(|group| !group.is_empty() && group.bytes().all(|digit| digit.is_ascii_digit()))
        .then(|| groups.replace('_', ""))
}

/// Whether a star stands immediately before another one.
fn stands_at(before: Option<&TokenWithSpan>, star: &TokenWithSpan) -> bool {
    before.is_some_and(|before| before.token == Token::Mul && before.span.end == star.span.start)
}

fn keyword(token: &Token) -> Option<Keyword> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    }
}

fn is(token: Option<&Token>, wanted: Keyword) -> bool {
    token.and_then(keyword) == Some(wanted)
}

/// Whether a query begins behind this token, if a TABLE follows.
fn begins_query(before: Option<&Token>) -> bool {
    const SET: &[Keyword] = &[Keyword::UNION, Keyword::EXCEPT, Keyword::INTERSECT, Keyword::ALL];
    match before {
        None | Some(Token::LParen | Token::SemiColon) => true,
        Some(token) => keyword(token).is_some_and(|keyword| SET.contains(&keyword)),
    }
}
