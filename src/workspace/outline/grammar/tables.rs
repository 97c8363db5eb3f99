//! The grammars with their tag queries and what those leave out, and the nodes that an analysis counts, as data.

/// Nodes at which a way divides, whatever the language.
pub(super) const BRANCHES: &[&str] = &[
    "if_expression",
    "if_statement",
    "if",
    "elif_clause",
    "else_if_clause",
    "elsif",
    "unless",
    "if_modifier",
    "unless_modifier",
    "while_expression",
    "while_statement",
    "while",
    "while_modifier",
    "until",
    "for_expression",
    "for_statement",
    "for_in_statement",
    "for_range_loop",
    "enhanced_for_statement",
    "foreach_statement",
    "for",
    "do_statement",
    "conditional_expression",
    "ternary_expression",
    "conditional",
    "match_arm",
    "match_conditional_expression",
    "switch_case",
    "switch_label",
    "switch_section",
    "switch_expression_arm",
    "case_statement",
    "case_clause",
    "expression_case",
    "type_case",
    "communication_case",
    "when",
    "catch_clause",
    "except_clause",
    "rescue",
];

/// Nodes that take something from elsewhere.
pub(super) const IMPORTS: &[&str] = &[
    "use_declaration",
    "extern_crate_declaration",
    "import_statement",
    "import_from_statement",
    "future_import_statement",
    "import_declaration",
    "import_spec",
    "preproc_include",
    "using_directive",
    "namespace_use_declaration",
    "include_expression",
    "include_once_expression",
    "require_expression",
    "require_once_expression",
];

/// A grammar with its tag query, and what that leaves out.
pub(super) fn source(name: &str) -> Option<(tree_sitter::Language, String)> {
    let (language, tags, more) = match name {
        "Rust" => (
            tree_sitter_rust::LANGUAGE,
            tree_sitter_rust::TAGS_QUERY,
            "(impl_item) @definition.group
             (const_item name: (identifier) @name) @definition.constant
             (static_item name: (identifier) @name) @definition.constant
             (function_signature_item name: (identifier) @name) @definition.function",
        ),
        "Python" => (
            tree_sitter_python::LANGUAGE,
            tree_sitter_python::TAGS_QUERY,
            "",
        ),
        "JavaScript" => (
            tree_sitter_javascript::LANGUAGE,
            tree_sitter_javascript::TAGS_QUERY,
            METHODS,
        ),
        "TypeScript" | "TSX" => {
            let language = match name {
                "TSX" => tree_sitter_typescript::LANGUAGE_TSX,
                _ => tree_sitter_typescript::LANGUAGE_TYPESCRIPT,
            };
            let more = format!("{TYPES}\n{METHODS}\n{}", tree_sitter_javascript::TAGS_QUERY);
            return Some((
                language.into(),
                tree_sitter_typescript::TAGS_QUERY.to_owned() + &more,
            ));
        }
        "Go" => (
            tree_sitter_go::LANGUAGE,
            tree_sitter_go::TAGS_QUERY,
            "(source_file (const_declaration (const_spec name: (identifier) @name) @definition.constant))",
        ),
        "Java" => (
            tree_sitter_java::LANGUAGE,
            tree_sitter_java::TAGS_QUERY,
            "(constructor_declaration name: (identifier) @name) @definition.method
             (enum_declaration name: (identifier) @name) @definition.class
             (record_declaration name: (identifier) @name) @definition.class
             (annotation_type_declaration name: (identifier) @name) @definition.class",
        ),
        "C" => (tree_sitter_c::LANGUAGE, tree_sitter_c::TAGS_QUERY, MACROS),
        "C++" => {
            let more = format!(
                "{MACROS}
                 (namespace_definition name: (_) @name) @definition.module
                 (function_declarator declarator: (destructor_name) @name) @definition.method
                 (function_declarator declarator: (qualified_identifier name: (destructor_name) @name)) @definition.method
                 (function_declarator declarator: (operator_name) @name) @definition.method"
            );
            return Some((
                tree_sitter_cpp::LANGUAGE.into(),
                tree_sitter_cpp::TAGS_QUERY.to_owned() + &more,
            ));
        }
        "Ruby" => (tree_sitter_ruby::LANGUAGE, tree_sitter_ruby::TAGS_QUERY, ""),
        "PHP" => (
            tree_sitter_php::LANGUAGE_PHP,
            tree_sitter_php::TAGS_QUERY,
            "(enum_declaration name: (name) @name) @definition.class
             (const_declaration (const_element (name) @name)) @definition.constant",
        ),
        "C#" => (
            tree_sitter_c_sharp::LANGUAGE,
            tree_sitter_c_sharp::TAGS_QUERY,
            "(struct_declaration name: (identifier) @name) @definition.class
             (enum_declaration name: (identifier) @name) @definition.class
             (record_declaration name: (identifier) @name) @definition.class
             (delegate_declaration name: (identifier) @name) @definition.type
             (constructor_declaration name: (identifier) @name) @definition.method
             (local_function_statement name: (identifier) @name) @definition.function
             (namespace_declaration name: (qualified_name) @name) @definition.module",
        ),
        _ => return None,
    };
    Some((language.into(), format!("{tags}\n{more}")))
}

const METHODS: &str = "
(method_definition name: (property_identifier) @name) @definition.method
(method_definition name: (private_property_identifier) @name) @definition.method";
const TYPES: &str = "
(enum_declaration name: (identifier) @name) @definition.class
(type_alias_declaration name: (type_identifier) @name) @definition.type
(internal_module name: (_) @name) @definition.module";
const MACROS: &str = "
(preproc_def name: (identifier) @name) @definition.macro
(preproc_function_def name: (identifier) @name) @definition.macro";

/// The languages of [`source`].
pub(in crate::workspace::outline) const NAMES: &[&str] = &[
    "Rust",
    "Python",
    "JavaScript",
    "TypeScript",
    "Go",
    "Java",
    "C",
    "C++",
    "Ruby",
    "PHP",
    "C#",
];
