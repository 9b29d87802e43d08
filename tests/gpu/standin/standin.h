/* What the files of the stand-in share. Hidden, as a preloaded library's names would replace those of any other. */
#pragma once
#pragma GCC visibility push(hidden)

#define COUNT(name) count_named("", name)

/* Add one to the counter called `prefix` followed by `name`. */
void count_named(const char *prefix, const char *name);

/* Return the environment variable STANDIN_`name` as a number, or `otherwise` where it is not set. */
long long setting(const char *name, long long otherwise);

/* Remember an error of the CUDA runtime for cudaGetLastError, and return it. */
int failed(int error);

#pragma GCC visibility pop
