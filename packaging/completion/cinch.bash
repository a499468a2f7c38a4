# bash completion of cinch. Commands and options are read from --help, so they are always those of the program.
_cinch() {
    local word=${COMP_WORDS[COMP_CWORD]} help
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        help=$("$1" --help 2>/dev/null | sed -n 's/^  \([a-z][a-z]*\) .*/\1/p')
    elif [[ $word == -* ]]; then
        help=$("$1" "${COMP_WORDS[1]}" --help 2>/dev/null | grep -o -e '--[a-z][a-z-]*' | sort -u)
    else
        return
    fi
    mapfile -t COMPREPLY < <(compgen -W "$help" -- "$word")
}
complete -o default -F _cinch cinch
