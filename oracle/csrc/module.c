/* module.c: the Python module oracle._steps: the step loops of the budget, and a problem in balls of pairs. Limited API
   of CPython 3.11, no NumPy headers.

       forward(tape, reals, arrays)         oracle/budget/forward.py
       backward(tape, reals, arrays)        oracle/budget/backward.py
       pairs_forward(tape, reals, arrays)   oracle/pairs.py; so are pairs_backward, entrywise, product

   tape is bytes of int64, reals bytes of float64, and arrays a sequence of C-contiguous buffers of float64, all as
   oracle/budget/compiled.py and oracle/pairs.py write them: see tape.h. Results are written into the arrays. ValueError says what of a tape
   is wrong, before anything is computed. The GIL is released while it is. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#include "tape.h"

enum { MOST_ARRAYS = 1 << 12 };

static int is_float64(const Py_buffer *view) {
    const char *format = view->format ? view->format : "B";
    if (*format == '@' || *format == '=') format++;
    return format[0] == 'd' && format[1] == '\0' && (uintptr_t)view->buf % sizeof(double) == 0;
}

/* Opens each array's buffer; how many are open, fewer than count with an exception. */
static Py_ssize_t open_arrays(PyObject *list, Py_ssize_t count, Py_buffer *views, tape_array *arrays) {
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *object = PySequence_GetItem(list, i);
        if (!object) return i;
        int failed = PyObject_GetBuffer(object, &views[i], PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT);
        if (failed) {
            PyErr_Clear();
            failed = PyObject_GetBuffer(object, &views[i], PyBUF_C_CONTIGUOUS | PyBUF_FORMAT);
        }
        Py_DECREF(object);
        if (failed) return i;
        if (!is_float64(&views[i])) {
            PyErr_Format(PyExc_ValueError, "array %zd is not of float64", i);
            PyBuffer_Release(&views[i]);
            return i;
        }
        arrays[i].data = views[i].buf;
        arrays[i].entries = (size_t)views[i].len / sizeof(double);
        arrays[i].writable = !views[i].readonly;
    }
    return count;
}

static PyObject *run(PyObject *arguments, int (*bounds)(tape *, arena *)) {
    const char *numbers, *reals;
    Py_ssize_t number_bytes, real_bytes;
    PyObject *list;
    if (!PyArg_ParseTuple(arguments, "y#y#O", &numbers, &number_bytes, &reals, &real_bytes, &list)) return NULL;
    const Py_ssize_t count = PySequence_Size(list);
    if (count < 0) return NULL;
    if (count > MOST_ARRAYS) return PyErr_Format(PyExc_ValueError, "%zd arrays are too many", count);
    arena memory = {0};
    Py_buffer *views = PyMem_Calloc((size_t)count + 1, sizeof(Py_buffer));
    tape_array *arrays = arena_bytes(&memory, (size_t)count * sizeof(tape_array));
    int64_t *copied = arena_bytes(&memory, (size_t)number_bytes); /* bytes need not be aligned */
    double *copied_reals = arena_bytes(&memory, (size_t)real_bytes);
    tape from = {0};
    int done = -1;
    Py_ssize_t open = 0;
    if (views && !memory.failed) {
        open = open_arrays(list, count, views, arrays);
        if (open == count) {
            memcpy(copied, numbers, (size_t)number_bytes);
            memcpy(copied_reals, reals, (size_t)real_bytes);
            from.numbers = copied;
            from.length = (size_t)number_bytes / sizeof(int64_t);
            from.reals = copied_reals;
            from.real_count = (size_t)real_bytes / sizeof(double);
            from.arrays = arrays;
            from.array_count = (size_t)count;
            Py_BEGIN_ALLOW_THREADS
            done = bounds(&from, &memory);
            Py_END_ALLOW_THREADS
        }
    }
    for (Py_ssize_t i = 0; i < open; i++) PyBuffer_Release(&views[i]);
    PyMem_Free(views);
    const int failed = memory.failed || !views;
    arena_free(&memory);
    if (PyErr_Occurred()) return NULL;
    if (failed) return PyErr_NoMemory();
    if (done < 0) {
        return PyErr_Format(PyExc_ValueError, "tape: %s, at %zu of %zu", from.wrong ? from.wrong : "wrong", from.next,
                            from.length);
    }
    Py_RETURN_NONE;
}

static PyObject *call_forward(PyObject *module, PyObject *arguments) {
    (void)module;
    return run(arguments, forward_bounds);
}

static PyObject *call_backward(PyObject *module, PyObject *arguments) {
    (void)module;
    return run(arguments, backward_bounds);
}

static PyObject *call_pairs_forward(PyObject *module, PyObject *arguments) {
    (void)module;
    return run(arguments, pairs_forward);
}

static PyObject *call_pairs_backward(PyObject *module, PyObject *arguments) {
    (void)module;
    return run(arguments, pairs_backward);
}

static PyObject *call_entrywise(PyObject *module, PyObject *arguments) {
    (void)module;
    return run(arguments, pairs_entrywise);
}

static PyObject *call_product(PyObject *module, PyObject *arguments) {
    (void)module;
    return run(arguments, pairs_product);
}

static PyMethodDef METHODS[] = {
    {"forward", call_forward, METH_VARARGS, "forward(tape, reals, arrays): the steps of the forward errors."},
    {"backward", call_backward, METH_VARARGS, "backward(tape, reals, arrays): the passes of the backward errors."},
    {"pairs_forward", call_pairs_forward, METH_VARARGS, "pairs_forward(tape, reals, arrays): the steps in balls."},
    {"pairs_backward", call_pairs_backward, METH_VARARGS, "pairs_backward(tape, reals, arrays): the passes in balls."},
    {"entrywise", call_entrywise, METH_VARARGS, "entrywise(tape, reals, arrays): operations on arrays of balls."},
    {"product", call_product, METH_VARARGS, "product(tape, reals, arrays): a product of matrices of balls."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};

static PyModuleDef MODULE = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_steps",
    .m_doc = "The step loops of the budget, and problems in pairs; see oracle/budget/compiled.py and oracle/pairs.py.",
    .m_methods = METHODS,
    .m_slots = SLOTS,
};

PyMODINIT_FUNC PyInit__steps(void) { return PyModuleDef_Init(&MODULE); }
