# Completion of moonquay for bash: the executable is asked for its words, none is repeated here.
# shellcheck shell=bash

# Bash cuts words at '=' and ':', which are parts of ours: the line is cut at blanks instead.
_moonquay() {
    local line=${COMP_LINE:0:COMP_POINT} current="" offered word cut
    local -a words

    COMPREPLY=()
    read -ra words <<<"$line"
    if [[ $line != *[[:space:]] ]]; then
        current=${words[-1]}
        unset "words[-1]"
    fi
    if [[ ${#words[@]} -le 1 ]]; then
        offered=$("$1" --words 2>/dev/null)
    elif [[ ${words[1]} == http ]]; then
        offered=$("$1" http --words "${words[@]:2}" "$current" 2>/dev/null)
    fi
    while read -r word; do
        [[ -n $word && $word == "$current"* ]] && COMPREPLY+=("$word")
    done <<<"$offered"
    # What has no words of its own may be a file: cert=/etc/…
    if [[ ${#COMPREPLY[@]} -eq 0 ]]; then
        cut=${current%"${current##*=}"}
        while read -r word; do
            [[ -n $word ]] && COMPREPLY+=("$cut$word")
        done < <(compgen -f -- "${current#"$cut"}")
    fi
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    # Bash replaces what stands behind the last character that it cuts at.
    cut=${current%"${current##*["$COMP_WORDBREAKS"]}"}
    [[ -n $cut ]] && COMPREPLY=("${COMPREPLY[@]#"$cut"}")
    return 0
}

complete -F _moonquay moonquay
